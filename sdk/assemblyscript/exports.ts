// What the gateway calls. A plugin's entry file exports it: export * from "wasmgate/exports";
export * from "./assembly/exports";
