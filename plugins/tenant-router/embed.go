// Package tenantrouter holds the built module of the tenant router, so that a program can carry it.
// It uses embed of the standard library: the module is 12 KB, and a file beside the binary could be missing.
package tenantrouter

import _ "embed" // for Module

// Module is the module built from c/tenant-router.c; README.md has the command.
//
//go:embed tenant-router.wasm
var Module []byte
