package pgcmdmcp

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd"
	"go.uber.org/zap"
)

// Options say what a [Server] serves. The zero Options serve nothing, which [New]
// refuses.
type Options struct {
	// Tools are the commands that clients can call. Those of the catalog that are not
	// named here do not exist for them.
	Tools []Tool

	// Schemas are those whose tables the resource pgcmd://schema describes. None: there
	// is no such resource.
	Schemas []string

	// Limits bound every call. Zero fields have the defaults of [Limits].
	Limits Limits

	// Name and Version are what the server calls itself. Empty: "pgcmd" and "0".
	Name, Version string

	// Logger is told of every call, without its input and its output. Nil: nobody is,
	// but of a panic standard error.
	Logger *zap.Logger
}

// A Tool is a command that clients can call.
type Tool struct {
	Command string // its name in the catalog

	// Name is the tool's. Empty: the command's, with what clients do not take replaced.
	Name string

	// AllowWrites lets clients call a command that does not count as a read, by
	// Options.ReadOnly or by its text (see [pgcmd.Query]). Without it [New]
	// refuses such a command.
	AllowWrites bool

	// Additive says that the command only adds: a client need not warn before it runs.
	// That is the author's word, as ReadOnly is.
	Additive bool

	// Limits bound the calls of this tool. Zero fields are those of [Options.Limits], but
	// Concurrent counts this tool's calls alone: zero is no bound but the server's.
	Limits Limits
}

// Limits bound a call. What goes beyond is an error, never a part of the result, but of a
// command that changed data: its result is shown in part, with a field shortened that
// says so, and of a batch says which items were not applied, all of them.
type Limits struct {
	// Rows is how many elements an input and an output that are arrays may have. Zero:
	// 1,000. The input is counted before anything is sent, and of a Query that
	// counts as a read no more rows are read; other outputs are counted when they are there.
	Rows int

	// InputBytes and OutputBytes are of the JSON. Zero: 1 MiB, and 256 KiB, which is
	// more than most models read. A Query or a QueryOne whose values are ten times as
	// long as OutputBytes is not read to its end, nor is there memory for it. However
	// short, JSON is too long if clients do not read it: if it is nested more than 500
	// levels deep, or has a number beyond a float64.
	InputBytes, OutputBytes int

	// Time is that of a whole call. Zero: 30 seconds. The Timeout of the command, if it
	// is shorter, ends it sooner.
	Time time.Duration

	// Concurrent is how many calls may run at once; one more is refused, it does not
	// wait. A client that is slow to read takes no place. Zero: 8. Fewer than the pool's connections leave some for the service.
	Concurrent int
}

var defaults = Limits{Rows: 1000, InputBytes: 1 << 20, OutputBytes: 256 << 10, Time: 30 * time.Second, Concurrent: 8}

// or returns l with those of other in place of zeros.
func (l Limits) or(other Limits) Limits {
	if l.Rows == 0 {
		l.Rows = other.Rows
	}
	if l.InputBytes == 0 {
		l.InputBytes = other.InputBytes
	}
	if l.OutputBytes == 0 {
		l.OutputBytes = other.OutputBytes
	}
	if l.Time == 0 {
		l.Time = other.Time
	}
	if l.Concurrent == 0 {
		l.Concurrent = other.Concurrent
	}
	return l
}

// valueBytes is how long the values of a result may be, as PostgreSQL sends them, so that
// its JSON may be as short as OutputBytes: the eight bytes of a number are one digit and a
// comma, and the header of an empty array is ten times as long as its JSON.
func (l Limits) valueBytes() int { return 10 * l.OutputBytes }

func (l Limits) check(where string) error {
	if l.Rows < 0 || l.InputBytes < 0 || l.OutputBytes < 0 || l.Time < 0 || l.Concurrent < 0 {
		return fmt.Errorf("pgcmdmcp: %s has a negative limit: zero is the default, and there is no way to be without", where)
	}
	return nil
}

// check returns all that is wrong with the options.
func (o *Options) check(known map[string]pgcmd.CommandInfo) error {
	errs := []error{o.Limits.check("Options.Limits")}
	if len(o.Tools) == 0 {
		errs = append(errs, errors.New("pgcmdmcp: Options.Tools names no command, and nothing is served unless it is named"))
	}
	if slices.Contains(o.Schemas, "") {
		errs = append(errs, errors.New("pgcmdmcp: Options.Schemas has an empty name"))
	}
	tools := map[string]string{}
	for i, t := range o.Tools {
		info, ok := known[t.Command]
		if !ok {
			errs = append(errs, fmt.Errorf("pgcmdmcp: Options.Tools[%d]: the catalog has no command %q", i, t.Command))
			continue
		}
		errs = append(errs, t.check(info))
		name := t.name()
		if other, taken := tools[name]; taken {
			errs = append(errs, fmt.Errorf("pgcmdmcp: %s and %s would both be the tool %s: set Tool.Name of one", other, t.Command, name))
		}
		tools[name] = t.Command
	}
	return errors.Join(errs...)
}

func (t Tool) check(info pgcmd.CommandInfo) error {
	errs := []error{t.Limits.check(t.Command)}
	if takesSQL(info) {
		errs = append(errs, fmt.Errorf("pgcmdmcp: %s takes SQL, and anyone who talks to the model could write it: "+
			"make commands of what is to be asked, and serve these", t.Command))
	}
	if !info.ReadOnly && !t.AllowWrites {
		errs = append(errs, fmt.Errorf("pgcmdmcp: %s may change data: set Tool.AllowWrites, or, if it does not, Options.ReadOnly of the command", t.Command))
	}
	if info.Description == "" {
		errs = append(errs, fmt.Errorf("pgcmdmcp: %s has no description, and a model has nothing else to go by: set Options.Description of the command", t.Command))
	}
	if name := t.name(); !validName(name) {
		errs = append(errs, fmt.Errorf("pgcmdmcp: %s would be the tool %q: set Tool.Name to 1 to %d letters, digits, _ or -, of which the first is a letter or _", t.Command, name, maxName))
	}
	for _, path := range unnamable(parse(info.Input), "") {
		errs = append(errs, fmt.Errorf("pgcmdmcp: the field %q of the input of %s has a name that models' providers refuse: "+
			"give it 1 to 64 letters, digits, _, . or - by a json tag", path, t.Command))
	}
	return errors.Join(errs...)
}

// takesSQL reports whether the command is AdHoc, under whatever options, a batch of it,
// or another one that takes the same input, as a whole, in a field or embedded.
func takesSQL(info pgcmd.CommandInfo) bool {
	adHoc := pgcmd.NewCatalog(pgcmd.AdHoc).Manifest().Commands[0]
	query, _ := parse(adHoc.Input)["properties"].(map[string]any)
	return strings.TrimRight(info.Name, "[]") == adHoc.Name || hasQuery(parse(info.Input), query)
}

// hasQuery reports whether a schema has an object with the SQL and the Args of a query.
func hasQuery(schema any, query map[string]any) bool {
	s, ok := schema.(map[string]any)
	if !ok {
		return false
	}
	properties, _ := s["properties"].(map[string]any)
	found := properties["SQL"] != nil && reflect.DeepEqual(properties["SQL"], query["SQL"]) && reflect.DeepEqual(properties["Args"], query["Args"])
	each(maps.Clone(s), func(_, _ string, inner any) any {
		found = found || hasQuery(inner, query)
		return inner
	})
	return found
}

// maxName is what the strictest of the known clients takes, and Google's asks for a letter
// or _ in front; the specification has 128, and dots.
const maxName = 64

func (t Tool) name() string {
	if t.Name != "" {
		return t.Name
	}
	return strings.Map(func(r rune) rune {
		if validRune(r) {
			return r
		}
		return '_'
	}, strings.ReplaceAll(t.Command, "[]", "_batch"))
}

func validName(name string) bool {
	return name != "" && len(name) <= maxName && name[0] != '-' && (name[0] < '0' || name[0] > '9') && strings.IndexFunc(name, func(r rune) bool { return !validRune(r) }) < 0
}

func validRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}
