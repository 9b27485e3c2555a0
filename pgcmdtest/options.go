package pgcmdtest

import (
	"fmt"
	"strings"
)

// Option changes what [Start] starts.
type Option func(*config)

type config struct {
	tcp      bool
	settings strings.Builder
	freePort func() (int, error)
}

// WithTCP makes the server listen on 127.0.0.1 too, on a port that the system chose, which [Server.URL] then names.
func WithTCP() Option {
	return func(c *config) { c.tcp = true }
}

// WithSetting sets name to value in postgresql.conf, as in WithSetting("max_connections", "20").
// The last one of a name wins. Start fails when PostgreSQL refuses it. Where the server listens is not up to settings.
func WithSetting(name, value string) Option {
	return func(c *config) { c.set(name, value) }
}

func (c *config) set(name, value string) {
	fmt.Fprintf(&c.settings, "%s = '%s'\n", name, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value))
}
