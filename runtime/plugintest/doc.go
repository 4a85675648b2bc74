// Package plugintest runs plugins without a gateway: it compiles a module as the gateway does, meters it, and sends it
// exchanges on one event loop, with a body, an upstream's answer, calls to upstreams and state that a test makes up. What
// a plugin decides here it decides there, because nothing between the exchange and the guest is another.
//
// It uses no library: what runs plugins are the gateway's own packages, and what is made up is small.
package plugintest
