package telemetry

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
)

// Figures of the process and of Go's runtime, under the names that Prometheus' own clients give them, so that
// dashboards made for any Go program fit.
var (
	mBuild       = metric{"wasmgate_build_info", gauge, "Always 1; its labels say what is running."}
	mGoroutines  = metric{"go_goroutines", gauge, "Goroutines that exist."}
	mMaxProcs    = metric{"go_sched_gomaxprocs_threads", gauge, "Threads that may run Go code at once."}
	mHeap        = metric{"go_memstats_heap_alloc_bytes", gauge, "Bytes of heap objects."}
	mSystem      = metric{"go_memstats_sys_bytes", gauge, "Bytes obtained from the system."}
	mAllocated   = metric{"go_memstats_alloc_bytes_total", counter, "Bytes allocated on the heap, whether freed or not."}
	mGCs         = metric{"go_gc_cycles_total_gc_cycles_total", counter, "Garbage collections completed."}
	mGCTime      = metric{"go_cpu_classes_gc_total_cpu_seconds_total", counter, "Estimated processor time spent by the garbage collector."}
	mCPU         = metric{"process_cpu_seconds_total", counter, "Processor time of the process."}
	mResident    = metric{"process_resident_memory_bytes", gauge, "Memory of the process that is resident."}
	mVirtual     = metric{"process_virtual_memory_bytes", gauge, "Address space of the process."}
	mDescriptors = metric{"process_open_fds", gauge, "File descriptors that are open."}
	mMaxFDs      = metric{"process_max_fds", gauge, "File descriptors that may be open."}
	mStarted     = metric{"process_start_time_seconds", gauge, "When the process started, as Unix time."}
)

// Build says what is running, for the metric wasmgate_build_info and the traces' resource.
type Build struct{ Version, Revision string }

var goMetrics = []struct {
	source string
	metric metric
}{
	{"/sched/goroutines:goroutines", mGoroutines},
	{"/sched/gomaxprocs:threads", mMaxProcs},
	{"/memory/classes/heap/objects:bytes", mHeap},
	{"/memory/classes/total:bytes", mSystem},
	{"/gc/heap/allocs:bytes", mAllocated},
	{"/gc/cycles/total:gc-cycles", mGCs},
	{"/cpu/classes/gc/total:cpu-seconds", mGCTime},
}

func processMetrics(p *page, b Build) {
	p.head(mBuild)
	p.count(1, "version", b.Version, "revision", b.Revision, "go_version", runtime.Version(), "os", runtime.GOOS, "arch", runtime.GOARCH)
	samples := make([]metrics.Sample, len(goMetrics))
	for i := range goMetrics {
		samples[i].Name = goMetrics[i].source
	}
	metrics.Read(samples)
	for i, s := range samples {
		m := goMetrics[i].metric
		switch s.Value.Kind() {
		case metrics.KindUint64:
			p.head(m)
			p.count(s.Value.Uint64())
		case metrics.KindFloat64:
			p.head(m)
			p.value(s.Value.Float64())
		}
	}
	procMetrics(p)
}

// ticksPerSecond is USER_HZ, which Linux fixes for what it tells user space on every platform that Go runs on.
const ticksPerSecond = 100

// procMetrics reads /proc/self. Where there is none it writes nothing: no figure is better than a wrong one.
func procMetrics(p *page) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return
	}
	// The second field is a name in parentheses that may hold anything; the third begins after the last of them.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	number := func(i int) float64 { // i as proc(5) numbers the fields
		if i-3 >= len(fields) {
			return 0
		}
		v, _ := strconv.ParseFloat(string(fields[i-3]), 64)
		return v
	}
	put := func(m metric, v float64) {
		p.head(m)
		p.value(v)
	}
	put(mCPU, (number(14)+number(15))/ticksPerSecond)
	put(mVirtual, number(23))
	put(mResident, number(24)*float64(os.Getpagesize()))
	if boot, ok := procNumber("/proc/stat", "btime"); ok {
		put(mStarted, boot+number(22)/ticksPerSecond)
	}
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		put(mDescriptors, float64(max(0, len(names)-1))) // without the one that this took
	}
	if limit, ok := procNumber("/proc/self/limits", "Max open files"); ok {
		put(mMaxFDs, limit)
	}
}

// procNumber returns the first number of the line that begins with name.
func procNumber(file, name string) (float64, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				v, err := strconv.ParseFloat(string(f[0]), 64)
				return v, err == nil
			}
		}
	}
	return 0, false
}
