// Package address parses the address of a server, and decides whether a connection to it is
// safe from others on the network. It does not know the other settings of a pool.
package address

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Of returns an address in libpq's form, key=value. A zero port is 5432; other zero values are
// left out.
func Of(host string, port uint16, database, user string) string {
	var b strings.Builder
	for _, pair := range [...][2]string{{"host", host}, {"dbname", database}, {"user", user}} {
		if pair[1] != "" {
			b.WriteString(pair[0] + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(pair[1]) + "' ")
		}
	}
	return b.String() + "port=" + strconv.Itoa(int(cmp.Or(port, 5432)))
}

// Parse parses an address: a URL, or key=value pairs. Unless insecure is set, sslmode is
// verify-full if neither the address nor PGSSLMODE sets it and a host is not this machine.
// The text of an error may hold parts of the password.
func Parse(address string, insecure bool) (*pgxpool.Config, error) {
	settings, err := pgxpool.ParseConfig(address)
	if err != nil || insecure || strings.Contains(address, "sslmode") || os.Getenv("PGSSLMODE") != "" || !slices.ContainsFunc(Hosts(settings), isRemote) {
		return settings, err
	}
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		query := u.Query()
		query.Set("sslmode", "verify-full")
		u.RawQuery = query.Encode()
		return pgxpool.ParseConfig(u.String())
	}
	return pgxpool.ParseConfig(address + " sslmode=verify-full")
}

// Hosts returns all hosts of an address, the first one first.
func Hosts(settings *pgxpool.Config) []string {
	hosts := []string{settings.ConnConfig.Host}
	for _, f := range settings.ConnConfig.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	return hosts
}

// isRemote reports whether a host is not this machine.
func isRemote(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// IsInsecure reports whether a connection may leave this machine without TLS that verifies the
// server, so that others could read or change what is sent.
func IsInsecure(settings *pgxpool.Config) bool {
	cc := settings.ConnConfig
	insecure := isRemote(cc.Host) && (cc.TLSConfig == nil || cc.TLSConfig.InsecureSkipVerify)
	for _, f := range cc.Fallbacks {
		insecure = insecure || isRemote(f.Host) && (f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify)
	}
	return insecure
}

// KeepAlive makes the system detect a dead peer within a minute.
func KeepAlive(cc *pgx.ConnConfig) {
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
}
