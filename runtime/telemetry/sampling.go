package telemetry

import (
	"fmt"
	"strconv"
)

// sampler decides which requests are traced.
type sampler struct {
	parentBased bool   // a caller's decision is ours
	bound       uint64 // trace ids below it are sampled: see randomBelow
}

// everything is the bound that every id is below.
const everything = 1 << 63

func ratioSampler(ratio float64, parentBased bool) sampler {
	switch {
	case !(ratio > 0): // NaN too
		return sampler{parentBased, 0}
	case ratio >= 1:
		return sampler{parentBased, everything}
	}
	return sampler{parentBased, uint64(ratio * everything)}
}

// newSampler makes the sampler that o asks for, or the standard variables where o leaves it open.
func newSampler(o *Traces, env func(string) string) (sampler, error) {
	if o.Sample != nil {
		if !(*o.Sample >= 0 && *o.Sample <= 1) {
			return sampler{}, fmt.Errorf("traces: sample %v must be between 0 and 1", *o.Sample)
		}
		return ratioSampler(*o.Sample, true), nil
	}
	ratio := 1.0
	if arg := env("OTEL_TRACES_SAMPLER_ARG"); arg != "" {
		v, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(v >= 0 && v <= 1) {
			return sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q must be a number between 0 and 1", arg)
		}
		ratio = v
	}
	switch name := env("OTEL_TRACES_SAMPLER"); name {
	case "", "parentbased_always_on":
		return ratioSampler(1, true), nil
	case "parentbased_traceidratio":
		return ratioSampler(ratio, true), nil
	case "parentbased_always_off":
		return ratioSampler(0, true), nil
	case "always_on":
		return ratioSampler(1, false), nil
	case "always_off":
		return ratioSampler(0, false), nil
	case "traceidratio":
		return ratioSampler(ratio, false), nil
	default:
		return sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER %q is not known", name)
	}
}

// logSampler decides which requests have a line in the access log.
type logSampler struct {
	bound uint64 // numbers of 63 bits below it are kept
	slow  int64  // nanoseconds; 0: none is slow
}

func newLogSampler(o *AccessLog) (logSampler, error) {
	s := logSampler{everything, int64(o.Slow)}
	if o.Sample != nil {
		if !(*o.Sample >= 0 && *o.Sample <= 1) {
			return s, fmt.Errorf("access log: sample %v must be between 0 and 1", *o.Sample)
		}
		s.bound = ratioSampler(*o.Sample, false).bound
	}
	return s, nil
}

// keeps says whether something that ended, and took so long, has a line: what failed always has.
func (r *Recorder) keeps(failed bool, took int64) bool {
	return r.logged.bound >= everything || failed || r.logged.slow > 0 && took >= r.logged.slow || r.ids.source.Uint64()>>1 < r.logged.bound
}
