// Package observability has dashboards, alert rules and recording rules for those who run the gateway, and tests that hold
// them against a gateway that runs: a name or a label that is not there is an error, and so is one that nobody explains.
// Prometheus's own parser reads the queries, because another one would understand others.
package observability
