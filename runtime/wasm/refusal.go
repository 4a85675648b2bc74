package wasm

// Refusal is the cause of an error that a guest gives itself: it starts, and does not want what it was configured with.
type Refusal struct {
	VM   bool   // not the plugin's configuration, but that of its virtual machine, which Proxy-Wasm has
	Text string // the whole message
}

// Error is the message.
func (r *Refusal) Error() string { return r.Text }
