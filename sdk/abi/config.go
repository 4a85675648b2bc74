package abi

// Offsets of the configuration view.
const (
	configLength   = 0
	configMinor    = 4
	configFeatures = 8
	configMax      = 12
	configName     = 16
	configBytes    = 24
	configRequest  = 32
	configResponse = 36
	// ConfigFixed is the length of its fixed part.
	ConfigFixed = 40
	// configLeast is the length of minor version 0.
	configLeast = 32
)

// Config is what a guest is told by configure.
type Config struct {
	Minor     uint32 // the host's minor version
	Features  uint32 // bits; none
	MaxAnswer uint32 // the longest answer that the host takes, in bytes
	Name      []byte // the plugin's name in the configuration
	Bytes     []byte // the plugin's configuration: a string as it is, everything else as JSON; empty if there is none
	// The longest bodies that can be held, in bytes; 0: the plugin is not granted bodies, or the host has minor version 0.
	RequestBody, ResponseBody uint32
}

// AppendConfig appends the configuration view of c, which must be at the start of dst's arena: dst is empty.
func AppendConfig(dst []byte, c *Config) []byte {
	name, end := uint32(ConfigFixed), uint32(ConfigFixed+len(c.Name)) //nolint:gosec // bounded by the caller
	dst = le.AppendUint32(dst, ConfigFixed)
	dst = le.AppendUint32(dst, c.Minor)
	dst = le.AppendUint32(dst, c.Features)
	dst = le.AppendUint32(dst, c.MaxAnswer)
	dst = le.AppendUint32(dst, name)
	dst = le.AppendUint32(dst, uint32(len(c.Name))) //nolint:gosec // bounded by the caller
	dst = le.AppendUint32(dst, end)
	dst = le.AppendUint32(dst, uint32(len(c.Bytes))) //nolint:gosec // bounded by the caller
	dst = le.AppendUint32(dst, c.RequestBody)
	dst = le.AppendUint32(dst, c.ResponseBody)
	dst = append(dst, c.Name...)
	return append(dst, c.Bytes...)
}

// ParseConfig reads a configuration view; its slices are views into b.
func ParseConfig(b []byte) (Config, error) {
	if len(b) < configLeast || le.Uint32(b[configLength:]) < configLeast {
		return Config{}, errView
	}
	c := Config{Minor: le.Uint32(b[configMinor:]), Features: le.Uint32(b[configFeatures:]), MaxAnswer: le.Uint32(b[configMax:])}
	if len(b) >= ConfigFixed && le.Uint32(b[configLength:]) >= ConfigFixed {
		c.RequestBody, c.ResponseBody = le.Uint32(b[configRequest:]), le.Uint32(b[configResponse:])
	}
	v := View(b)
	for _, p := range [...]struct {
		at  int
		dst *[]byte
	}{{configName, &c.Name}, {configBytes, &c.Bytes}} {
		if !v.within(le.Uint32(b[p.at:]), le.Uint32(b[p.at+4:])) {
			return Config{}, errView
		}
		*p.dst = v.pair(p.at)
	}
	return c, nil
}
