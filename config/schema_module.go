package config

// PluginSources is how modules that are no files are fetched.
type PluginSources struct {
	Wait         Duration               `koanf:"wait" example:"1m" doc:"How long a start or a reload waits for modules that are in no cache. Then it goes on: requests of a plugin whose module is not there yet fare as its on_error says, until it is."`
	Timeout      Duration               `koanf:"timeout" min:"1s" example:"5m" doc:"Longest time of one try to fetch a module. One that brings nothing for 15s ends before."`
	MaxSize      Size                   `koanf:"max_size" min:"64KiB" max:"1GiB" example:"16MiB" doc:"Largest module, and largest layer of an image with one in it."`
	DockerConfig string                 `koanf:"docker_config" example:"/etc/wasmgate/docker.json" doc:"Docker's config.json, with the credentials of registries and the helpers that know them. off: none. Default: config.json in $DOCKER_CONFIG, or in .docker in the home folder."`
	CAFile       string                 `koanf:"ca_file" file:"true" example:"certs/ca.pem" doc:"PEM file of certificate authorities to trust, beside the system's."`
	Hosts        map[string]*PluginHost `koanf:"hosts" key:"host" doc:"What is special about a host, by its name, with the port if the module's has one."`
}

// PluginHost is what is special about a host that modules are fetched from.
type PluginHost struct {
	CAFile      string `koanf:"ca_file" file:"true" example:"certs/registry.pem" doc:"PEM file of the certificate authorities to trust for this host, in place of all others."`
	Credentials string `koanf:"credentials" example:"REGISTRY_LOGIN" doc:"Name of an environment variable with user:password, or with a token alone. It goes before docker_config, and is read at each fetch."`
}
