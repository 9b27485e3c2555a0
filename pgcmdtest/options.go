package pgcmdtest

import (
	"fmt"
	"strings"
)

// Option changes what [Start], [Server.Standby] or [PgBouncer] starts.
type Option func(*config)

type config struct {
	tcp      bool
	settings []setting // the last one of a name wins
	freePort func() (int, error)
}

type setting struct{ name, value string }

// WithTCP makes the server listen on 127.0.0.1 too, on a port that the system chose, which [Server.URL] then names.
// [PgBouncer] does so in any case.
func WithTCP() Option {
	return func(c *config) { c.tcp = true }
}

// WithSetting sets name to value in postgresql.conf, as in WithSetting("max_connections", "20"), or in pgbouncer.ini.
// The last one of a name wins. The start fails when PostgreSQL or PgBouncer refuses it. Where they listen is not up
// to settings.
func WithSetting(name, value string) Option {
	return func(c *config) { c.set(name, value) }
}

func (c *config) set(name, value string) {
	c.settings = append(c.settings, setting{name, value})
}

// postgresql returns the settings as lines of postgresql.conf.
func (c *config) postgresql() string {
	var b strings.Builder
	for _, s := range c.settings {
		fmt.Fprintf(&b, "%s = '%s'\n", s.name, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s.value))
	}
	return b.String()
}

// pgbouncer returns the settings as lines of pgbouncer.ini, which has no quotes for them.
func (c *config) pgbouncer() string {
	var b strings.Builder
	for _, s := range c.settings {
		fmt.Fprintf(&b, "%s = %s\n", s.name, s.value)
	}
	return b.String()
}
