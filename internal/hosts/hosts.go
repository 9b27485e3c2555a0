// Package hosts checks the Host header of HTTP requests, against web pages whose name was
// pointed at this machine (DNS rebinding).
package hosts

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// Allowed reports whether a Host header, with or without a port, names one of hosts, which
// may have a port too, or, if there are none, this machine: localhost or an address of it.
func Allowed(header string, hosts []string) bool {
	name := withoutPort(header)
	if name == "" {
		return false
	}
	if len(hosts) > 0 {
		return slices.ContainsFunc(hosts, func(host string) bool { return strings.EqualFold(withoutPort(host), name) })
	}
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// Only answers requests whose Host header is allowed by next, and others with 403.
func Only(hosts []string, next http.Handler) http.Handler {
	hosts = slices.Clone(hosts)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Allowed(r.Host, hosts) {
			http.Error(w, "the Host header names no host of this server: add it to those of Handler, if it is one", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
