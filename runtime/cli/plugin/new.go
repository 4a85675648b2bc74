package plugin

import (
	"embed"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"wasmgate/sdk"
)

// templates are the files of new projects, for each language and for all (common). @NAME@ in them, and in their names, is
// the project's name, and @IDENT@ the same as an identifier. Their names end with .tmpl, so that they are no sources here.
//
//go:embed all:templates
var templates embed.FS

const templateSuffix = ".tmpl"

func newNew(p *Process) *cobra.Command {
	var lang string
	c := &cobra.Command{
		Use:   "new NAME --lang LANGUAGE",
		Short: "Make a project for a new plugin",
		Long: `Makes the folder NAME with a plugin that works: its source, its tests, a README and the SDK. Nothing else is needed to
build it but the language's compiler.

Languages:` + languageList(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("one NAME is wanted: wasmgate plugin new NAME --lang LANGUAGE")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if lang == "" {
				return errors.New("--lang is missing: it is one of " + languageNames())
			}
			l, err := languageOf(lang)
			if err != nil {
				return err
			}
			return failing(p.create(args[0], l))
		},
	}
	c.Flags().StringVar(&lang, "lang", "", "the `language`: "+languageNames())
	_ = c.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions(strings.Split(languageNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func languageNames() string {
	var names []string
	for _, l := range languages {
		names = append(names, l.name)
	}
	return strings.Join(names, ", ")
}

func languageList() string {
	var b strings.Builder
	for _, l := range languages {
		var tools []string
		for _, t := range l.tools {
			tools = append(tools, t.program)
		}
		fmt.Fprintf(&b, "\n  %-6s %s, built with %s", l.name, l.title, strings.Join(tools, " and "))
	}
	return b.String()
}

// projectName is what a name may be: it becomes the name of files, of a Go module and of a crate.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`)

// create makes a new project. Nothing is written over.
func (p *Process) create(folder string, l *language) error {
	name := filepath.Base(filepath.Clean(folder))
	if name == "wasmgate" {
		return errors.New(`"wasmgate" cannot be the name of a plugin: the SDK is called that`)
	}
	if !projectName.MatchString(name) || len(name) > 60 {
		return fmt.Errorf("%q cannot be the name of a plugin: use lower-case letters and digits, with - between words, as in header-policy", name)
	}
	if entries, err := os.ReadDir(folder); err == nil && len(entries) > 0 {
		return fmt.Errorf("the folder %s is there already, and not empty", folder)
	}
	files, err := l.files(name)
	if err != nil {
		return err
	}
	for _, f := range files {
		to := filepath.Join(folder, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // a project is for all to read
			return err
		}
		if err := os.WriteFile(to, f.content, 0o644); err != nil { //nolint:gosec // see above
			return err
		}
	}
	fmt.Fprintf(p.Stdout, "Made %s, a plugin in %s.\n\n", folder, l.title)
	fmt.Fprintf(p.Stdout, "  cd %s\n", folder)
	if l.setup != "" {
		fmt.Fprintf(p.Stdout, "  %s\n", l.setup)
	}
	fmt.Fprintf(p.Stdout, "  wasmgate plugin test    # builds it, and sends it the requests of %s.test.yaml\n", name)
	fmt.Fprintf(p.Stdout, "  wasmgate plugin run     # a gateway around it: try it with curl; a change is built and swapped in\n\n")
	fmt.Fprintf(p.Stdout, "What it decides is in %s; README.md says more.\n", strings.NewReplacer("@NAME@", name).Replace(l.main))
	if err := p.missing(l, folder); err != nil && !errors.Is(err, errSetup) { // that was said
		fmt.Fprintf(p.Stderr, "\nNote: %s\n", err)
	}
	return nil
}

// file is a file of a new project, with slashes in its name.
type file struct {
	name    string
	content []byte
}

// files are those of a new project.
func (l *language) files(name string) (list []file, err error) {
	replace := strings.NewReplacer("@NAME@", name, "@IDENT@", strings.ReplaceAll(name, "-", "_"), "@TITLE@", l.title, "@FINGERPRINT@", fingerprint(name), "@MAIN@", strings.ReplaceAll(l.main, "@NAME@", name))
	own := l
	if l.like != nil {
		own = l.like
	}
	for _, folder := range []string{"templates/common", "templates/" + own.name} {
		err := fs.WalkDir(templates, folder, func(from string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := templates.ReadFile(from)
			to := strings.TrimSuffix(strings.TrimPrefix(from, folder+"/"), templateSuffix)
			if base, ok := strings.CutSuffix(to, l.renamed[0]); ok && l.renamed[0] != "" {
				to = base + l.renamed[1]
			}
			list = append(list, file{replace.Replace(to), []byte(replace.Replace(string(text)))})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	page := ""
	for _, c := range l.sdk {
		err := fs.WalkDir(sdk.Files, c.from, func(from string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(from, "_test.go") {
				return err
			}
			text, err := sdk.Files.ReadFile(from)
			text = []byte(insideProject.Replace(string(text)))
			if path.Ext(from) == ".md" {
				text = linkInside.ReplaceAll(ofRepository.ReplaceAll(text, nil), []byte("$1"))
			}
			f := file{path.Join(c.to, strings.TrimPrefix(from, c.from)), text}
			if f.name == l.page {
				page = "What else a plugin can do (call services, keep state, see bodies, be called now and then, measure) is in\n[the SDK's page](" + l.page + ").\n"
			}
			list = append(list, f)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	setup := ""
	if l.setup != "" {
		setup = fmt.Sprintf("%-31s # once\n", l.setup)
	}
	check := ""
	if l.check != "" {
		check = fmt.Sprintf("%-31s # the tests in %s, which need no gateway and no WebAssembly\n", l.check, l.title)
	}
	alone := ""
	if l.alone != "" {
		alone = "Without `wasmgate plugin build`:\n\n```sh\n" + replace.Replace(l.alone) + "\n```\n\n"
	}
	for i := range list {
		list[i].content = []byte(strings.NewReplacer("@PAGE@\n", page, "@SETUP@\n", setup, "@CHECK@\n", check, "@ALONE@\n", alone).Replace(string(list[i].content)))
	}
	return list, nil
}

// insideProject is where in a project that is which pages and sources have in this repository.
var insideProject = strings.NewReplacer(
	"-I sdk/c", "-I .", "authz/authz.c", "authz.c", "../sdk/zig", "wasmgate", "../sdk/rust", "wasmgate", "../sdk/assemblyscript", "wasmgate", " (sdk/abi.md)", "",
)

// ofRepository is what a page says of what a project does not have.
var ofRepository = regexp.MustCompile(`(?s)<!--repository-->.*?<!--/repository-->`)

// linkInside is a link of a page to another place in this repository, which a project does not have.
var linkInside = regexp.MustCompile(`\[([^\]]*)\]\([^):#]*\)`)

// fingerprint is what Zig wants a package to have: a checksum of its name, and a number.
func fingerprint(name string) string {
	id := crc32.ChecksumIEEE([]byte("wasmgate plugin " + name))
	return fmt.Sprintf("0x%08x%08x", crc32.ChecksumIEEE([]byte(strings.ReplaceAll(name, "-", "_"))), max(1, min(id, 1<<32-2)))
}
