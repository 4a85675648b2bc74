package admin

import (
	"errors"
	"net/http"
	"time"
)

var pluginOperations = []operation{
	{
		method: "GET", path: "/plugins", id: "listPlugins", group: groupPlugins, serve: (*api).plugins,
		summary: "The plugins.",
		answers: []reply{ok([]Plugin{}, "By name.")},
	},
	{
		method: "GET", path: "/plugins/{name}", id: "getPlugin", group: groupPlugins, serve: (*api).plugin,
		summary: "One plugin.",
		answers: []reply{ok(Plugin{}, "The plugin."), said404},
	},
	{
		method: "POST", path: "/plugins/{name}/swap", id: "swapPlugin", group: groupPlugins, changes: true, serve: (*api).swap,
		summary: "Put another module in the plugin's place, while it runs.",
		text: "Requests under way end with the module that they began with. The module is compiled and started before anything changes; one that " +
			"cannot be used changes nothing. It stays until the config is loaded again.",
		body: Swap{},
		answers: []reply{
			ok(Plugin{}, "The plugin as it is now."), said400, said404,
			{409, asText, nil, "The gateway is stopping."}, {422, asText, nil, "The module cannot be read, or cannot be used; nothing has changed."},
		},
	},
	{
		method: "POST", path: "/plugins/{name}/rollback", id: "rollBackPlugin", group: groupPlugins, changes: true, serve: (*api).rollback,
		summary: "Go back to the version before.",
		text:    "The module is kept in memory, so it need not be there any more. It stays until the config is loaded again.",
		answers: []reply{
			ok(Plugin{}, "The plugin as it is now."), said404, {409, asText, nil, "There is no version before this one, or the gateway is stopping."},
			{422, asText, nil, "The module cannot be used any more; nothing has changed."},
		},
	},
}

// Plugin is a plugin in force.
type Plugin struct {
	Name     string        `json:"name"`
	ABI      string        `json:"abi" enum:"native,proxy-wasm,http-wasm,none" doc:"none: its module is not there."`
	Module   string        `json:"module" doc:"The path or reference in force."`
	Digest   string        `json:"digest,omitempty" doc:"sha256:… of the module in force."`
	Live     bool          `json:"differs_from_config" doc:"The module was swapped or rolled back since the config was loaded."`
	Missing  string        `json:"missing,omitempty" doc:"Why the module could not be fetched yet."`
	OnError  string        `json:"on_error" enum:"fail_closed,fail_open"`
	Limits   PluginLimits  `json:"limits"`
	Versions []Version     `json:"versions" doc:"The modules that were in force, the present one first; 4 at most."`
	Figures  PluginFigures `json:"figures" doc:"Since the version in force was loaded."`
	Loops    []PluginLoop  `json:"loops" doc:"Instances by event loop."`
	Errors   []PluginError `json:"errors" doc:"The last errors, the newest first; 16 at most."`
	Used     PluginUse     `json:"used_by"`
	At       string        `json:"at,omitempty" doc:"file:line:column"`
}

// PluginLimits are what one call may use.
type PluginLimits struct {
	Memory    int64   `json:"memory_bytes" doc:"Linear memory of an instance."`
	Fuel      int64   `json:"fuel" doc:"Instructions of a call."`
	StartFuel int64   `json:"start_fuel" doc:"Instructions of the start of an instance."`
	Body      int64   `json:"body_bytes" doc:"Of a body that is kept for it."`
	Calls     int     `json:"calls" doc:"Requests of its own for one request."`
	Wait      float64 `json:"wait_ms" doc:"How long a request waits for an instance."`
}

// Version is a module that was in force.
type Version struct {
	Module string    `json:"module" doc:"The path or reference that it was read from."`
	Digest string    `json:"digest" doc:"sha256:…"`
	Bytes  int       `json:"bytes"`
	Since  time.Time `json:"since" doc:"When it was put in force."`
	Why    string    `json:"why" enum:"config,swap,rollback" doc:"How it came to be in force."`
}

// PluginFigures are what the instances of a plugin did, all loops together.
type PluginFigures struct {
	Calls       uint64            `json:"calls"`
	Fuel        uint64            `json:"fuel"`
	Instances   int               `json:"instances"`
	Started     uint64            `json:"instances_started"`
	Memory      int64             `json:"memory_bytes" doc:"Linear memory of the instances that are not in use."`
	Failures    map[string]uint64 `json:"failures_by_kind" doc:"Traps and other failed calls, by kind."`
	BreakerOpen bool              `json:"breaker_open" doc:"It failed too often: on one loop at least it is not called."`
	LinesHeld   uint64            `json:"log_lines_dropped"`
}

// PluginLoop is an event loop's part of a plugin.
type PluginLoop struct {
	Loop        int   `json:"loop"`
	Instances   int   `json:"instances"`
	Parked      int   `json:"parked" doc:"Of those: wait for something outside."`
	Memory      int64 `json:"memory_bytes"`
	BreakerOpen bool  `json:"breaker_open"`
}

// PluginError is something that a plugin failed with.
type PluginError struct {
	Time  time.Time `json:"time"`
	Phase string    `json:"phase"`
	Kind  string    `json:"kind,omitempty"`
	Text  string    `json:"text"`
	Again int64     `json:"repeated,omitempty" doc:"Errors like it since the one before, which are not listed."`
}

// PluginUse is where a plugin is named.
type PluginUse struct {
	Routes    []string `json:"routes"`
	Listeners []string `json:"listeners"`
}

// Swap says which module to put in a plugin's place.
type Swap struct {
	Module string `json:"module,omitempty" doc:"A path, or a reference as in the config. Empty with reload."`
	Reload bool   `json:"reload,omitempty" doc:"Read the path that is in force again."`
}

func (a *api) plugins(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Plugins())
}

func (a *api) plugin(w http.ResponseWriter, r *http.Request) {
	for _, p := range a.Gateway.Plugins() {
		if p.Name == r.PathValue("name") {
			answer(w, http.StatusOK, p)
			return
		}
	}
	http.Error(w, "no plugin is called "+shorten(r.PathValue("name"), 100)+"; GET /plugins lists them", http.StatusNotFound)
}

func (a *api) swap(w http.ResponseWriter, r *http.Request) {
	var said Swap
	err := read(r.Body, &said, `{"module": "plugins/tenant-2.wasm"}`)
	if err == nil && (said.Module == "") != said.Reload {
		err = errors.New("give module, a path or a reference, or reload: true to read the one in force again")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.changed(w, r, a.Gateway.SwapPlugin(r.PathValue("name"), said))
}

func (a *api) rollback(w http.ResponseWriter, r *http.Request) {
	a.changed(w, r, a.Gateway.RollBackPlugin(r.PathValue("name")))
}

// changed answers with the plugin as it is after a change.
func (a *api) changed(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	a.plugin(w, r)
}
