package pgcmdmcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pgcmd/pgcmd"
)

// A command that changes data has changed it by the time its result is there. One that is
// too long for the client is then no error: it is shown in part, and says so in the field
// shortened, which the output schemas of such tools have.

// batchFields are the names of a batch's result, as the command's schema has them.
type batchFields struct{ outcomes, succeeded, failed, skipped string }

// batchOf returns the names of the fields if the schema is that of a batch's result.
func batchOf(name string, schema map[string]any) *batchFields {
	properties, _ := schema["properties"].(map[string]any)
	if !strings.HasSuffix(name, "[]") || len(properties) != 4 {
		return nil
	}
	find := func(name string) string {
		for property := range properties {
			if strings.EqualFold(property, name) {
				return property
			}
		}
		return ""
	}
	f := &batchFields{find("outcomes"), find("succeeded"), find("failed"), find("skipped")}
	if f.outcomes == "" || f.succeeded == "" || f.failed == "" || f.skipped == "" {
		return nil
	}
	return f
}

// shortening is how a tool's result is shortened.
type shortening struct {
	field string // shortened, or what is left of that name
	batch *batchFields
}

// shortenable adds to the schema of an output what its shortened form has.
func shortenable(name string, schema map[string]any) shortening {
	s := shortening{field: "shortened", batch: batchOf(name, schema)}
	properties, _ := schema["properties"].(map[string]any)
	if properties == nil { // one of several objects, or of any fields: there is no place for it
		return shortening{}
	}
	for properties[s.field] != nil {
		s.field += "_"
	}
	properties[s.field] = map[string]any{"type": "string", "description": "what of the result is not shown, and why; it was applied"}
	schema["properties"] = properties
	if s.batch != nil {
		number, text := map[string]any{"type": "integer"}, map[string]any{"type": "string"}
		properties["failures"] = map[string]any{"type": "array", "description": "of a shortened result: the first items that failed",
			"items": map[string]any{"type": "object", "required": []string{"index", "code", "effect", "message"}, "properties": map[string]any{
				"index": number, "code": text, "effect": text, "message": text}}}
		properties["others"] = map[string]any{"type": "array", "description": "of a shortened result: all other items that failed or were skipped",
			"items": map[string]any{"type": "object", "required": []string{"code", "effect", "count", "items"}, "properties": map[string]any{
				"code": text, "effect": text, "count": number, "items": text}}}
		return s
	}
	if required, ok := schema["required"]; ok {
		delete(schema, "required")
		schema["anyOf"] = []any{map[string]any{"required": required}, map[string]any{"required": []string{s.field}}}
	}
	return s
}

// shorten returns what is shown of an output that is too long, of a command that was
// applied. It is the result as the client gets it.
func (t *tool) shorten(output json.RawMessage) json.RawMessage {
	const repeat = "Do not repeat the call."
	switch {
	case t.short.batch != nil:
		return t.summary(output)
	case t.short.field == "":
		return nil
	case unreadable(output) != "":
		return t.unread("JSON that " + unreadable(output))
	case !t.out.array:
		return render(map[string]any{t.short.field: fmt.Sprintf(
			"It was applied. Its result has %d bytes, and a client is given at most %d. %s", len(output), t.limits.OutputBytes, repeat)})
	}
	said := func(shown, all int) string {
		return fmt.Sprintf("It was applied. Of %d rows the first %d are shown: a client is given at most %d rows and %d bytes. %s",
			all, shown, t.limits.Rows, t.limits.OutputBytes, repeat)
	}
	all := length(output)
	room := t.limits.OutputBytes - len(t.out.field) - len(t.short.field) - len(said(all, all)) - len(`{"":[],"":""}`)
	dec := json.NewDecoder(bytes.NewReader(output))
	_, _ = dec.Token() // null or the bracket
	var rows []json.RawMessage
	for len(rows) < t.limits.Rows && dec.More() {
		var row json.RawMessage
		if dec.Decode(&row) != nil {
			break
		}
		if room -= len(row) + 1; room < 0 {
			break
		}
		rows = append(rows, row)
	}
	if rows == nil {
		rows = []json.RawMessage{}
	}
	return render(map[string]any{t.out.field: rows, t.short.field: said(len(rows), all)})
}

// unread is the result of a command that was applied and returned more than it may.
func (t *tool) unread(returned string) json.RawMessage {
	shown := map[string]any{t.short.field: "It was applied. It returned " + returned + ", of which none is shown. Do not repeat the call."}
	if t.out.array {
		shown[t.out.field] = []any{}
	}
	return render(shown)
}

// A batchItem is an item of a batch that failed or was skipped.
type batchItem struct {
	Index   int    `json:"index"`
	Code    string `json:"code"`
	Effect  string `json:"effect"`
	Message string `json:"message"`

	Constraint string          `json:"constraint,omitempty"`
	Problems   json.RawMessage `json:"problems,omitempty"`
}

// A batchGroup is the items that failed alike and are not listed.
type batchGroup struct {
	Code   string `json:"code"`
	Effect string `json:"effect"`
	Count  int    `json:"count"`
	Items  string `json:"items"` // their indexes, as in 3,17-99
}

// summary returns the result of a batch without its outcomes: how many items there were of
// each kind, the first that failed, as many as fit, and of the others the indexes, all of
// them: what is neither listed nor numbered succeeded.
func (t *tool) summary(output json.RawMessage) json.RawMessage {
	var result struct {
		Outcomes []struct {
			OK    bool
			Error batchItem
		}
		Succeeded, Failed, Skipped int
	}
	if err := json.Unmarshal(output, &result); err != nil {
		panic(err) // the catalog made it
	}
	failed, skipped := []batchItem{}, []batchItem{} // a list in JSON, if empty
	for i, o := range result.Outcomes {
		item := o.Error
		item.Index = i
		switch {
		case o.OK:
		case item.Code == string(pgcmd.CodeSkipped):
			skipped = append(skipped, item)
		default:
			failed = append(failed, item)
		}
	}
	f := t.short.batch
	reason := fmt.Sprintf("The outcomes of %d items are more than the %d bytes that a client is given", len(result.Outcomes), t.limits.OutputBytes)
	if why := unreadable(output); why != "" {
		reason = "The result " + why + ", which clients do not read"
	}
	show := func(n int) json.RawMessage {
		return render(map[string]any{
			f.outcomes: []any{}, f.succeeded: result.Succeeded, f.failed: result.Failed, f.skipped: result.Skipped,
			"failures": failed[:n], "others": grouped(slices.Concat(failed[n:], skipped)),
			t.short.field: fmt.Sprintf("%s. "+
				"failures lists %d of the %d items that failed, by index from 0; others has the indexes of the rest. Every other item succeeded.",
				reason, n, len(failed)),
		})
	}
	// The more are listed the longer it is, but for a range that falls apart.
	n := sort.Search(len(failed), func(n int) bool { return len(show(n+1)) > t.limits.OutputBytes })
	return show(n)
}

// grouped brings together what failed alike. The items are in the order of their indexes
// within each group.
func grouped(items []batchItem) []batchGroup {
	groups := []batchGroup{}
	indexes := [][]int{}
	for _, item := range items {
		at := slices.IndexFunc(groups, func(g batchGroup) bool { return g.Code == item.Code && g.Effect == item.Effect })
		if at < 0 {
			at = len(groups)
			groups = append(groups, batchGroup{Code: item.Code, Effect: item.Effect})
			indexes = append(indexes, nil)
		}
		groups[at].Count++
		indexes[at] = append(indexes[at], item.Index)
	}
	for i := range groups {
		groups[i].Items = ranges(indexes[i])
	}
	return groups
}

// ranges writes indexes in their order, as in 3,17-99.
func ranges(indexes []int) string {
	var b []byte
	for i := 0; i < len(indexes); {
		first := i
		for i++; i < len(indexes) && indexes[i] == indexes[i-1]+1; i++ {
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(indexes[first]), 10)
		if i-first > 1 {
			b = strconv.AppendInt(append(b, '-'), int64(indexes[i-1]), 10)
		}
	}
	return string(b)
}
