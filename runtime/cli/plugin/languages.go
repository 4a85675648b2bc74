package plugin

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// language is a language that plugins are written in.
type language struct {
	name    string   // as --lang
	aliases []string // what else --lang may be
	title   string
	// like is the language whose files a new project gets, with the end of their names changed; nil: its own.
	like    *language
	renamed [2]string
	// mark says whether a file, by its name in the project's folder, shows that the project is of this language.
	mark func(name string) bool
	// tools are what it is built with.
	tools []tool
	// sdk is which of the SDKs' files a new project gets, and where. Tests of the SDK stay behind.
	sdk []copied
	// build returns the commands that build the project in b.dir into b.out.
	build func(b *build) ([]command, error)
	// page is where the SDK's README goes.
	page string
	// main is the source file that an author begins with.
	main string
	// alone builds a project without this command; "" if that is nothing that one would type.
	alone string
	// setup is what an author does once, in a new project; "" if that is nothing.
	setup string
	// check runs the tests that a project has in its own language; "" if there are none.
	check string
	// own are the files that its tools write into the project, which are no sources.
	own []string
}

// tool is a program, and how to get it.
type tool struct {
	program string
	install string
	// find returns what the program is called by, for a project in dir; nil: it is in PATH.
	find func(p *Process, dir string) (args []string, ok bool)
	// partly says what is missing where a part of it is there; nil: there are no parts, or none of them is there.
	partly func(p *Process) error
}

// copied is a folder or a file of the SDKs, and where it goes.
type copied struct{ from, to string }

// command is a tool with its arguments, and what it needs in its environment.
type command struct {
	args []string
	env  []string
}

// build is a project that is being built.
type build struct {
	dir   string // of the project, absolute
	out   string // the module to write, absolute
	strip bool   // without names and lines
	work  string // a folder for what is made on the way
	files []string
	// made is a pattern of where the commands write the module, if that is not out. What an earlier build left there is
	// removed first.
	made   string
	unmade string // what to say if there is none

	getenv func(name string) string
}

// languages are all, in the order in which they are told.
var languages = []*language{&goLanguage, &rustLanguage, &asLanguage, &cLanguage, &cppLanguage, &zigLanguage}

const (
	installRust  = "apt-get install rustc cargo libstd-rust-dev-wasm32 (Debian, Ubuntu), or https://rustup.rs and rustup target add " + rustTarget
	installNode  = "Node.js 20 or later, https://nodejs.org, and npm install in the project's folder"
	installZig   = "Zig 0.17, https://ziglang.org/download, or pip install ziglang==0.17.*, where zig is called python-zig"
	installGo    = "https://go.dev/dl, 1.24 or later; apt-get install golang-go and brew install go may do"
	installClang = "apt-get install clang lld (Debian, Ubuntu), dnf install clang lld (Fedora), brew install llvm lld (macOS)"
)

var goLanguage = language{
	name: "go", aliases: []string{"golang"}, title: "Go", main: "main.go", page: "wasmgate/sdk/go/README.md", check: "go test .",
	alone: "GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -o @NAME@.wasm .",
	mark:  func(name string) bool { return name == "go.mod" },
	tools: []tool{{"go", installGo, nil, nil}},
	sdk:   []copied{{"go", "wasmgate/sdk/go"}, {"abi", "wasmgate/sdk/abi"}},
	build: func(b *build) ([]command, error) {
		args := []string{"go", "build", "-buildmode=c-shared", "-trimpath"}
		if b.strip {
			args = append(args, "-ldflags=-s -w")
		}
		return []command{{append(args, "-o", b.out, "."), []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}}}, nil
	},
}

var cLanguage = language{
	name: "c", title: "C", main: "@NAME@.c", page: "wasmgate.md",
	alone: "clang -std=c11" + clangFlags + "@NAME@.c",
	mark:  func(name string) bool { return filepath.Ext(name) == ".c" },
	tools: []tool{{"clang", installClang, nil, nil}, {"wasm-ld", installClang, findLinker, nil}},
	sdk:   []copied{{"c/wasmgate.h", "wasmgate.h"}, {"c/README.md", "wasmgate.md"}},
	build: buildC,
}

var cppLanguage = language{
	name: "cpp", aliases: []string{"c++", "cxx", "cc"}, title: "C++", main: "@NAME@.cpp", page: cLanguage.page,
	like: &cLanguage, renamed: [2]string{".c", ".cpp"},
	alone: "clang++ -std=c++20 -fno-exceptions -fno-rtti" + clangFlags + "@NAME@.cpp",
	mark:  func(name string) bool { return slices.Contains([]string{".cc", ".cpp", ".cxx"}, filepath.Ext(name)) },
	tools: cLanguage.tools, sdk: cLanguage.sdk, build: buildC,
}

// clangFlags are those with which clang alone makes a module.
const clangFlags = " --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--stack-first -Wl,--strip-all -I . \\\n  -o @NAME@.wasm "

func buildC(b *build) ([]command, error) {
	var c, cpp []string
	for _, f := range b.files {
		switch filepath.Ext(f) {
		case ".c":
			c = append(c, f)
		case ".cc", ".cpp", ".cxx":
			cpp = append(cpp, f)
		}
	}
	args := []string{"clang", "-std=c11"}
	if len(cpp) > 0 {
		if len(c) > 0 {
			return nil, fmt.Errorf("%s and %s: a plugin is in C or in C++; make all of it one of them", c[0], cpp[0])
		}
		args, c = []string{"clang++", "-std=c++20", "-fno-exceptions", "-fno-rtti"}, cpp
	}
	args = append(args, "--target=wasm32", "-O2", "-Wall", "-Wextra", "-I", ".")
	// The linker is called by name: clang would have a wasm-opt that happens to be installed go over its module, which
	// then has neither the names nor the lines that it had.
	link := []string{"wasm-ld", "--no-entry", "--stack-first", "-o", b.out}
	if b.strip {
		link = append(link, "--strip-all")
	} else {
		args = append(args, "-g", "-ffile-prefix-map="+b.dir+"=.")
	}
	var commands []command
	for i, f := range c {
		object := filepath.Join(b.work, fmt.Sprintf("%d.o", i))
		commands = append(commands, command{append(slices.Clone(args), "-c", "-o", object, f), nil})
		link = append(link, object)
	}
	return append(commands, command{link, nil}), nil
}

const rustTarget = "wasm32-unknown-unknown"

var rustLanguage = language{
	name: "rust", title: "Rust", main: "src/lib.rs", page: "wasmgate/README.md", check: "cargo test", own: []string{"target"},
	alone: "cargo build --release --target " + rustTarget + "    # target/" + rustTarget + "/release/@IDENT@.wasm",
	mark:  func(name string) bool { return name == "Cargo.toml" },
	tools: []tool{{"cargo", installRust, findCargo, partlyCargo}},
	sdk:   []copied{{"rust", "wasmgate"}},
	build: func(b *build) ([]command, error) {
		// The library's name may be another than the package's, so that whatever is made is taken.
		b.made = filepath.Join(globbed(b.dir), "target", rustTarget, "release", "*.wasm")
		b.unmade = "cargo made no module: Cargo.toml wants `[lib]` with `crate-type = [\"cdylib\"]`"
		env := []string{"CARGO_PROFILE_RELEASE_DEBUG=1", "CARGO_PROFILE_RELEASE_STRIP=none"}
		if b.strip {
			env = []string{"CARGO_PROFILE_RELEASE_DEBUG=0", "CARGO_PROFILE_RELEASE_STRIP=symbols"}
		}
		env = append(env, rustFlags(b)...)
		return []command{{[]string{"cargo", "build", "--quiet", "--release", "--target", rustTarget, "--target-dir", "target"}, env}}, nil
	},
}

// rustFlags has the compiler write paths as they are from the project's folder. A variable of the target's own is joined by
// cargo with what .cargo/config.toml says of the target; RUSTFLAGS would take its place. Where RUSTFLAGS are there already
// they win over all others, and are added to.
func rustFlags(b *build) (env []string) {
	const target = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS"
	if strings.ContainsAny(b.dir, " \t") {
		return nil // flags end at spaces: traps tell whole paths then
	}
	remap := "--remap-path-prefix=" + b.dir + "=."
	if flags := b.getenv("CARGO_ENCODED_RUSTFLAGS"); flags != "" {
		return []string{"CARGO_ENCODED_RUSTFLAGS=" + flags + "\x1f" + remap}
	}
	name := target
	if b.getenv("RUSTFLAGS") != "" {
		name = "RUSTFLAGS"
	}
	return []string{name + "=" + strings.TrimSpace(b.getenv(name)+" "+remap)}
}

var asLanguage = language{
	name: "as", title: "AssemblyScript", main: "assembly/index.ts", page: "wasmgate/README.md", own: []string{"node_modules"},
	setup: "npm install", alone: "npm run build                   # @NAME@.wasm",
	mark:  func(name string) bool { return name == "asconfig.json" || name == "package.json" },
	tools: []tool{{"asc", installNode, findASC, partlyASC}},
	sdk:   []copied{{"assemblyscript", "wasmgate"}},
	build: func(b *build) ([]command, error) {
		args := []string{"asc", "assembly/index.ts", "--config", "wasmgate/asconfig.json", "--target", "release", "--path", "."}
		if !b.strip {
			args = append(args, "--debug")
		}
		return []command{{append(args, "--outFile", b.out), nil}}, nil
	},
}

var zigLanguage = language{
	name: "zig", title: "Zig", main: "src/main.zig", page: "wasmgate/README.md", check: "zig build test", own: []string{"zig-out"},
	alone: "zig build                       # zig-out/bin/@NAME@.wasm; the Zig that pip installs is called python-zig",
	mark:  func(name string) bool { return name == "build.zig" },
	tools: []tool{{"zig", installZig, findZig, nil}},
	sdk:   []copied{{"zig", "wasmgate"}},
	build: func(b *build) ([]command, error) {
		out := filepath.Join(b.dir, ".zig-cache", "wasmgate")
		b.made = filepath.Join(globbed(out), "bin", "*.wasm")
		b.unmade = "zig made no module: build.zig wants an executable for wasm32-freestanding, without an entry, that b.installArtifact is called with"
		return []command{{[]string{"zig", "build", "--summary", "none", "--error-style", "minimal", "--prefix", out, fmt.Sprintf("-Dstrip=%v", b.strip)}, nil}}, nil
	},
}

// languageOf finds a language by one of its names.
func languageOf(name string) (*language, error) {
	var names []string
	for _, l := range languages {
		if lower := strings.ToLower(name); lower == l.name || lower == strings.ToLower(l.title) || slices.Contains(l.aliases, lower) {
			return l, nil
		}
		names = append(names, l.name)
	}
	return nil, fmt.Errorf("--lang %s: it is one of %s", name, strings.Join(names, ", "))
}

// detect says which language the project in a folder is in.
func detect(dir string) (*language, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, l := range languages {
		for _, e := range entries {
			if !e.IsDir() && l.mark(e.Name()) {
				return l, nil
			}
		}
	}
	return nil, fmt.Errorf("%s holds no plugin's project: there is no go.mod, Cargo.toml, package.json, build.zig or C source in it; wasmgate plugin new NAME --lang LANGUAGE makes one", shown(dir))
}

// sources lists the files of a project, apart from what tools write there.
func (l *language) sources(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := ""
		if d != nil {
			name = d.Name()
		}
		switch {
		case err != nil:
			return nil //nolint:nilerr // what is gone while it is looked at is no source
		case d.IsDir() && path != dir && (strings.HasPrefix(name, ".") || slices.Contains(l.own, name)):
			return filepath.SkipDir
		case d.IsDir() || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || filepath.Ext(name) == ".wasm" || strings.HasSuffix(name, buildSuffix):
			return nil
		}
		files = append(files, path)
		return nil
	})
	return files
}

// shown is a folder as messages call it.
func shown(dir string) string {
	if dir == "." {
		return "this folder"
	}
	return dir
}
