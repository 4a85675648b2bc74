//go:build !race

package trial

const race = false
