// Metrics of the plugin's own: the gateway exports them beside its own, with the plugin's name. Names have a-z, 0-9, _ and .,
// and begin with a letter. Make them at the top level of the module, or in the function given to configure.
import { declareMetric } from "./config";
import { hostMetric } from "./host";

/** Counts what only grows. */
@final
export class Counter {
  private id: u32;

  constructor(name: string, description: string = "") {
    this.id = declareMetric(0, name, description, []);
  }

  /** Adds to the counter; v is not negative. */
  add(v: f64): void {
    hostMetric(this.id, v);
  }
}

/** What was measured last, in whatever instance. */
@final
export class Gauge {
  private id: u32;

  constructor(name: string, description: string = "") {
    this.id = declareMetric(1, name, description, []);
  }

  /** Sets the gauge. */
  set(v: f64): void {
    hostMetric(this.id, v);
  }
}

/** Counts values by their size. */
@final
export class Histogram {
  private id: u32;

  /** bounds are those of the buckets, ascending; without any they are the gateway's, which are good for milliseconds. */
  constructor(name: string, description: string = "", bounds: f64[] = []) {
    this.id = declareMetric(2, name, description, bounds);
  }

  /** Counts a value. */
  observe(v: f64): void {
    hostMetric(this.id, v);
  }
}

/** Counts what also shrinks. */
@final
export class UpDownCounter {
  private id: u32;

  constructor(name: string, description: string = "") {
    this.id = declareMetric(3, name, description, []);
  }

  /** Adds to the counter. */
  add(v: f64): void {
    hostMetric(this.id, v);
  }
}
