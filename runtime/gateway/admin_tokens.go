package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"wasmgate/config"
	"wasmgate/runtime/admin"
)

// readTokens reads a file of tokens: one in each line, with a name and a space in front if it has one. Lines that are empty
// or begin with # count for nothing.
func readTokens(text string) (list []admin.Token, err error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, token, named := strings.Cut(line, " ")
		if token = strings.TrimSpace(token); !named {
			name, token = fmt.Sprintf("line %d", n), line
		}
		if err := config.CheckToken(token); err != nil {
			return nil, fmt.Errorf("line %d: the token %w", n, err)
		}
		list = append(list, admin.NewToken(name, token))
	}
	if len(list) == 0 && lines.Err() == nil {
		return nil, errors.New("there is no token in it")
	}
	return list, lines.Err()
}
