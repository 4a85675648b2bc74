// Package config says what a gateway can be told and turns what it was told into plain data: the schema as Go structs,
// its defaults as values, and Load, which lays file, environment and overrides over each other, checks all of it and
// reports every mistake at once, each with its place in the file and what to write instead.
//
// It imports nothing of ours, and nothing in a Config is alive: the gateway builds its live parts from it and can
// compare two of them.
//
// Libraries: koanf/v2 lays the layers over each other, because each further source (a flag, a folder, a key-value
// store) is then a provider and not code of ours; goccy/go-yaml parses the file, because its syntax tree keeps the line
// and the column of every key and value.
//
//go:generate go run ./internal/gen .
package config
