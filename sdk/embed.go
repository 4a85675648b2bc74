// Package sdk holds the SDKs' sources, so that a program can lay them beside a new plugin. It uses embed of the standard
// library: a plugin's author has the binary, and not this repository.
package sdk

import "embed"

// Files are the SDKs as they are in this folder.
//
//go:embed go/*.go abi/*.go c/wasmgate.h */README.md
//go:embed rust/Cargo.toml rust/src
//go:embed zig/build.zig zig/build.zig.zon zig/src
//go:embed assemblyscript/*.ts assemblyscript/asconfig.json assemblyscript/package.json assemblyscript/assembly
var Files embed.FS
