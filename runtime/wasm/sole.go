package wasm

// What users of instances need that keep them without a Pool.

// Same says whether both handles are of one compiled module: of the same binary, limits and ABI.
func (c *Compiled) Same(d *Compiled) bool { return c.unit == d.unit }

// Shrink gives back native stacks that grew, as Pool.Sweep does. The instance must not be running.
func (in *Instance) Shrink() { in.shrink() }
