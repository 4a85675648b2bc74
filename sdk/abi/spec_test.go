package abi_test

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wasmgate/sdk/abi"
	"wasmgate/sdk/abi/abitest"
)

const specification = "../abi.md"

func TestSpecificationExamples(t *testing.T) {
	examples, err := abitest.Examples(specification)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range examples {
		kinds[e.Kind]++
		t.Run(e.Kind+" "+e.Name, func(t *testing.T) {
			text, err := abitest.Text(e.Kind, e.Hex)
			if err != nil || text != e.Text {
				t.Errorf("the bytes mean\n%s(%v), the page says\n%s", text, err, e.Text)
			}
			b, err := abitest.Encode(e.Kind, e.Text)
			if err != nil || !bytes.Equal(b, e.Hex) {
				t.Errorf("encoded\n% x (%v), the page has\n% x", b, err, e.Hex)
			}
		})
	}
	for _, k := range []string{"config", "manifest", "view", "operations", "answer", "body", "tick"} {
		if kinds[k] == 0 {
			t.Errorf("no example of a %s", k)
		}
	}
}

// The page names every number of the package, and the answers of its table are what they are said to be.
func TestSpecificationNumbers(t *testing.T) {
	b, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for word, k := range map[string]abi.Kind{
		"UPSTREAM": abi.OpUpstream, "ADDRESS": abi.OpAddress, "TIMEOUT": abi.OpTimeout, "HASH_KEY": abi.OpHashKey,
		"METHOD": abi.OpMethod, "AUTHORITY": abi.OpAuthority, "PATH": abi.OpPath, "QUERY": abi.OpQuery,
		"SET_HEADER": abi.OpSetHeader, "APPEND_HEADER": abi.OpAppendHeader, "REMOVE_HEADER": abi.OpRemoveHeader,
		"RESPOND": abi.OpRespond, "ATTRIBUTE": abi.OpAttribute, "LOG": abi.OpLog, "CONTEXT": abi.OpContext, "REMATCH": abi.OpRematch,
		"SET_BODY": abi.OpSetBody, "WANT_BODY": abi.OpWantBody, "KEEP": abi.OpKeep, "METRIC": abi.OpMetric,
	} {
		if !strings.Contains(page, "`0x"+strings.ToUpper(strconv.FormatUint(uint64(k)+0x100, 16)[1:])+"` "+word+" |") {
			t.Errorf("operation 0x%02x %s is not on the page", uint16(k), word)
		}
	}
	for _, name := range []string{abi.ExportArena, abi.ExportConfigure, abi.ExportRequest, abi.ExportResponse, abi.ExportResize, abi.ExportInit,
		abi.ExportBody, abi.ExportTick, abi.ImportLog, abi.ImportGetHeader, abi.ImportCall, abi.ImportCallAnswer, abi.ImportKVGet, abi.ImportKVSet,
		abi.ImportKVDelete, abi.ImportKVAdd, abi.ImportReadBody, abi.ImportMetric} {
		if !strings.Contains(page, "`"+name+"(") {
			t.Errorf("%s is not on the page", name)
		}
	}
	for word, n := range map[string]abi.Result{
		"OK": abi.ResultOK, "TIMEOUT": abi.ResultTimeout, "CONNECT": abi.ResultConnect, "DENIED": abi.ResultDenied, "TOO_LARGE": abi.ResultTooLarge,
		"INVALID": abi.ResultInvalid, "FAILED": abi.ResultFailed, "LIMIT": abi.ResultLimit, "MISMATCH": abi.ResultMismatch, "FULL": abi.ResultFull,
		"ABSENT": abi.ResultAbsent,
	} {
		if !strings.Contains(page, "\n| "+strconv.Itoa(int(n))+" | "+word+" |") {
			t.Errorf("result %d %s is not on the page", n, word)
		}
	}
	for word, n := range map[string]uint16{
		"PHASES": abi.ManifestPhases, "REQUEST_HEADER": abi.ManifestRequestHeader, "RESPONSE_HEADER": abi.ManifestResponseHeader,
		"UPSTREAM": abi.ManifestUpstream, "CALL": abi.ManifestCall, "STORE": abi.ManifestStore, "REQUEST_BODY": abi.ManifestRequestBody,
		"RESPONSE_BODY": abi.ManifestResponseBody, "TICK": abi.ManifestTick, "METRIC": abi.ManifestMetric,
	} {
		if !strings.Contains(page, "\n| "+strconv.Itoa(int(n))+" "+word+" |") {
			t.Errorf("manifest kind %d %s is not on the page", n, word)
		}
	}
	codes := map[string]abi.Code{"CONTINUE": abi.CodeContinue, "ROUTE": abi.CodeRoute, "DENY": abi.CodeDeny, "OPERATIONS": abi.CodeOperations}
	rows := regexp.MustCompile("\\| `0x([0-9a-f]{16})` \\| ([A-Z_]+)").FindAllStringSubmatch(page, -1)
	for _, row := range rows {
		v, err := strconv.ParseUint(row[1], 16, 64)
		if code, _ := abi.Unpack(v); err != nil || abi.Code(code) != codes[row[2]] {
			t.Errorf("%s is not %s", row[1], row[2])
		}
	}
	if len(rows) != 4 {
		t.Errorf("%d answers on the page", len(rows))
	}
	if row := regexp.MustCompile(`OPERATIONS, (\d+) bytes`).FindStringSubmatch(page); row == nil || row[1] != strconv.Itoa(0x53) {
		t.Error("the length of the example's list")
	}
}

// TestKindNames: an operation's name is that of its row in the page, in lower case.
func TestKindNames(t *testing.T) {
	page, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `0x([0-9a-f]{2})` ([A-Z_]+) \\|").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("%d operations in the page", len(rows))
	}
	for _, r := range rows {
		n, err := strconv.ParseUint(r[1], 16, 16)
		if got := abi.Kind(n).String(); err != nil || got != strings.ToLower(r[2]) {
			t.Errorf("0x%s: %q, the page has %s", r[1], got, r[2])
		}
	}
	if got := abi.Kind(0xfe09).String(); got != "0xfe09" {
		t.Error(got)
	}
}
