package scaffold

import (
	"fmt"
	"go/doc"
	"go/token"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// words splits an identifier of SQL or Go: created_at, createdAt and CreatedAt are created, at.
func words(name string) []string {
	words := writtenWords(name)
	for i, word := range words {
		words[i] = strings.ToLower(word)
	}
	return words
}

// writtenWords are the words of an identifier as they are written there.
func writtenWords(name string) (words []string) {
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, string(word))
			word = nil
		}
	}
	runes := []rune(strings.ReplaceAll(name, "OAuth", "Oauth"))
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush()
			continue
		}
		begins := unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		plural := i+1 < len(runes) && runes[i+1] == 's' && (i+2 == len(runes) || !unicode.IsLower(runes[i+2])) // IDs is one word
		if begins && !(plural && i > 0 && unicode.IsUpper(runes[i-1])) {
			flush()
		}
		word = append(word, r)
	}
	flush()
	return words
}

// initialisms are words that Go writes in capitals.
var initialisms = map[string]string{
	"acl": "ACL", "ai": "AI", "api": "API", "ascii": "ASCII", "cdn": "CDN", "cidr": "CIDR", "cpu": "CPU", "css": "CSS", "csv": "CSV", "dag": "DAG",
	"db": "DB", "dns": "DNS", "eof": "EOF", "gid": "GID", "html": "HTML", "http": "HTTP", "https": "HTTPS", "id": "ID", "ip": "IP", "isbn": "ISBN", "json": "JSON", "jsonb": "JSONB", "jwt": "JWT", "llm": "LLM", "lsn": "LSN", "mcp": "MCP", "mfa": "MFA", "oauth": "OAuth", "oid": "OID", "oidc": "OIDC", "os": "OS",
	"pid": "PID", "qps": "QPS", "ram": "RAM", "rpc": "RPC", "saml": "SAML", "scim": "SCIM", "sha": "SHA", "sla": "SLA", "sms": "SMS", "sql": "SQL", "ssh": "SSH", "sso": "SSO",
	"tcp": "TCP", "tls": "TLS", "ttl": "TTL", "udp": "UDP", "ui": "UI", "uid": "UID", "uri": "URI", "url": "URL", "urn": "URN", "utc": "UTC", "utf8": "UTF8", "uuid": "UUID", "vm": "VM", "xml": "XML", "xsrf": "XSRF", "xss": "XSS",
}

// initialismOf returns how Go writes a word that is an initialism, or several; "" for any other.
func initialismOf(word string) string {
	if initialism := initialisms[word]; initialism != "" {
		return initialism
	}
	if initialism := initialisms[strings.TrimSuffix(word, "s")]; initialism != "" {
		return initialism + "s"
	}
	return ""
}

// isCapitals reports whether a word is written in capitals, as MCP and URNs.
func isCapitals(word string) bool {
	word = strings.TrimSuffix(word, "s")
	return len(word) > 1 && word == strings.ToUpper(word) && word != strings.ToLower(word)
}

// exportedWords are the words of an exported identifier of Go for a name. A word that is in capitals stays so, unless the
// whole name is.
func exportedWords(name string) []string {
	all := writtenWords(name)
	mixed := strings.ContainsFunc(name, unicode.IsLower)
	for i, word := range all {
		lower := strings.ToLower(word)
		if initialism := initialismOf(lower); initialism != "" {
			all[i] = initialism
		} else if !mixed || !isCapitals(word) {
			first, size := utf8.DecodeRuneInString(lower)
			all[i] = string(unicode.ToUpper(first)) + lower[size:]
		}
	}
	return all
}

// exported writes a name as an exported identifier of Go.
func exported(name string) string {
	full := strings.Join(exportedWords(name), "")
	first, _ := utf8.DecodeRuneInString(full)
	if !unicode.IsUpper(first) { // digits, a script without capitals, or nothing
		return "X" + full
	}
	return full
}

// unexported writes a name as an identifier of Go that begins in lower case.
func unexported(name string) string {
	full := exported(name)
	if all := exportedWords(name); len(all) > 0 && (isCapitals(all[0]) || initialismOf(strings.ToLower(all[0])) != "") {
		if rest, ok := strings.CutPrefix(full, all[0]); ok { // and no X is before it
			return avoidKeyword(strings.ToLower(all[0]) + rest)
		}
	}
	r, size := utf8.DecodeRuneInString(full)
	return avoidKeyword(string(unicode.ToLower(r)) + full[size:])
}

// avoidKeyword changes a name that Go has a use for. A variable named delete would hide the function from the other files
// of the package.
func avoidKeyword(name string) string {
	if token.IsKeyword(name) || doc.IsPredeclared(name) || slices.Contains([]string{"init", "main"}, name) {
		return name + "Command"
	}
	return name
}

// singulars are words that the rules of singular would get wrong.
var singulars = map[string]string{
	"aliases": "alias", "analyses": "analysis", "buses": "bus", "caches": "cache", "campuses": "campus", "children": "child",
	"cookies": "cookie", "data": "data", "indices": "index", "matrices": "matrix", "media": "media", "men": "man", "meta": "meta", "movies": "movie",
	"news": "news", "people": "person", "series": "series", "species": "species", "statuses": "status", "ties": "tie",
	"viruses": "virus", "women": "woman",
}

// singular returns the singular of the last word of a name.
func singular(name string) string {
	all := words(name)
	if len(all) == 0 {
		return name
	}
	last := len(all) - 1
	all[last] = singularWord(all[last])
	return strings.Join(all, "_")
}

func singularWord(word string) string {
	if known, ok := singulars[word]; ok {
		return known
	}
	has := func(suffix string) bool { return len(word) > len(suffix)+1 && strings.HasSuffix(word, suffix) }
	switch {
	case has("ies"):
		return strings.TrimSuffix(word, "ies") + "y"
	case has("sses"), has("shes"), has("ches"), has("xes"), has("zzes"):
		return strings.TrimSuffix(word, "es")
	case strings.HasSuffix(word, "ss"), strings.HasSuffix(word, "us"), strings.HasSuffix(word, "is"):
		return word
	case has("s"):
		return strings.TrimSuffix(word, "s")
	}
	return word
}

// plural returns the plural of the last word of a name.
func plural(name string) string {
	switch {
	case strings.HasSuffix(name, "s"):
		return name
	case strings.HasSuffix(name, "y") && !strings.HasSuffix(name, "ey") && !strings.HasSuffix(name, "ay"):
		return strings.TrimSuffix(name, "y") + "ies"
	}
	return name + "s"
}

// names are the identifiers of a scope. Each is given once.
type names map[string]bool

// take returns name, or if it is taken name with suffix, and then with a number.
func (n names) take(name, suffix string) string {
	if n[name] && suffix != "" {
		name += suffix
	}
	free := name
	for i := 2; n[free]; i++ {
		free = fmt.Sprintf("%s%d", name, i)
	}
	n[free] = true
	return free
}

// numbered returns name with the first number that makes it free: id_2.
func (n names) numbered(name string) string {
	free := name
	for i := 2; n[free]; i++ {
		free = fmt.Sprintf("%s_%d", name, i)
	}
	n[free] = true
	return free
}

// QueryName is a name for a query of a kind that has none, by the table that it is about.
func QueryName(kind, table string, writes bool) string {
	switch {
	case writes, kind == "exec": // which may be DDL, of which it is not known
		return "Change" + exported(table)
	case kind == "one":
		return "Find" + exported(singular(table))
	}
	return "List" + exported(table)
}

// commandName is the name of a command, users.find for the query FindUser in users.sql: what the file is named after is
// left out, unless another command has that name already.
func commandName(group, query string, taken names) string {
	all := words(query)
	if subject := words(group); len(subject) == 1 {
		for i, word := range all {
			if singularWord(word) != singularWord(subject[0]) || len(all) == 1 {
				continue
			}
			short := group + "." + strings.Join(slices.Delete(slices.Clone(all), i, i+1), "_")
			if !taken[short] {
				return taken.take(short, "")
			}
		}
	}
	return taken.take(group+"."+strings.Join(all, "_"), "")
}
