// The package's API: see README.md.
export * from "./assembly/index";
