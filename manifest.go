package pgcmd

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// A Manifest is what the commands of a [Catalog] are, for people, for other programs
// and for models: render it as JSON.
type Manifest struct {
	Commands []CommandInfo `json:"commands"` // sorted by name
}

// A CommandInfo is what a [Manifest] says of one command.
type CommandInfo struct {
	Name        string
	Description string          // Options.Description
	Input       json.RawMessage // JSON Schema, draft 2020-12
	Output      json.RawMessage // likewise

	// ReadOnly is the word of Options.ReadOnly. A command without it counts as one
	// that changes data, whatever its SQL.
	ReadOnly    bool
	Transaction bool          // it runs in a transaction
	Once        bool          // a second run with the same key returns the first one's result
	Attempts    int           // the most that one run makes; at least 1
	Timeout     time.Duration // of a whole run; zero: the caller's context alone
	MaxRows     int           // of a Query; zero: no limit, or no Query

	// Codes are those that its errors can have. A command with Go code in it, be it a
	// body, a hook or a middleware, can have any, and more of its own; and so can a
	// statement whose trigger or function raises an SQLSTATE of its choice.
	Codes       []Code
	Constraints []ConstraintInfo // of Options.OnConstraint, sorted by name
}

// A ConstraintInfo is a constraint whose violation means something to the caller.
type ConstraintInfo struct {
	Name    string `json:"name"`
	Code    Code   `json:"code,omitempty"` // of the domain error; empty: that of the violation
	Message string `json:"message"`        // the text of the domain error
}

// Manifest describes the commands.
func (c *Catalog) Manifest() Manifest {
	m := Manifest{Commands: make([]CommandInfo, len(c.names))}
	for i, name := range c.names {
		info := c.entries[name].info
		info.Input, info.Output = slices.Clone(info.Input), slices.Clone(info.Output)
		info.Codes, info.Constraints = slices.Clone(info.Codes), slices.Clone(info.Constraints)
		m.Commands[i] = info
	}
	return m
}

type commandInfoJSON struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Input       json.RawMessage  `json:"input"`
	Output      json.RawMessage  `json:"output"`
	ReadOnly    bool             `json:"read_only"`
	Transaction bool             `json:"transaction"`
	Once        bool             `json:"once"`
	Attempts    int              `json:"attempts"`
	TimeoutMS   float64          `json:"timeout_ms,omitempty"`
	MaxRows     int              `json:"max_rows,omitempty"`
	Codes       []Code           `json:"codes"`
	Constraints []ConstraintInfo `json:"constraints,omitempty"`
}

// MarshalJSON renders the names in snake case, and Timeout as timeout_ms.
func (i CommandInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(commandInfoJSON{i.Name, i.Description, i.Input, i.Output, i.ReadOnly, i.Transaction, i.Once, i.Attempts,
		float64(i.Timeout.Microseconds()) / 1000, i.MaxRows, i.Codes, i.Constraints})
}

// UnmarshalJSON reads what MarshalJSON renders.
func (i *CommandInfo) UnmarshalJSON(data []byte) error {
	var j commandInfoJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*i = CommandInfo{j.Name, j.Description, j.Input, j.Output, j.ReadOnly, j.Transaction, j.Once, j.Attempts,
		time.Duration(j.TimeoutMS * float64(time.Millisecond)), j.MaxRows, j.Codes, j.Constraints}
	return nil
}

// describe makes what the manifest says of the command.
func (l *catalogEntry) describe() CommandInfo {
	i := CommandInfo{
		Name:        l.name,
		Description: l.own.Description,
		Input:       mustJSON(l.inputSchema),
		Output:      mustJSON(l.outputSchema),
		ReadOnly:    l.own.ReadOnly,
		Transaction: l.inTx,
		Once:        l.once,
		Attempts:    max(l.own.Retry.Attempts, 1),
		Timeout:     l.own.Timeout,
		MaxRows:     l.options.MaxRows,
		Codes:       l.codes(),
	}
	for name, domain := range l.options.OnConstraint {
		info := ConstraintInfo{Name: name, Message: domain.Error()}
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil {
			info.Code, info.Message = ours.Code, ours.Message
		}
		i.Constraints = append(i.Constraints, info)
	}
	slices.SortFunc(i.Constraints, func(a, b ConstraintInfo) int { return strings.Compare(a.Name, b.Name) })
	return i
}

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a mistake of this package's
	}
	return text
}

var allCodes = []Code{CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeAborted, CodeTimeout, CodeCanceled,
	CodeUnavailable, CodeExhausted, CodePermission, CodeUnknownEffect, CodeSkipped, CodeNestedAcquire, CodeFailed, CodeInternal}

// codes are those that the errors of the command can have, in the order of their
// declaration.
func (l *catalogEntry) codes() []Code {
	codes := slices.Clone(allCodes)
	if l.isStatement && !l.hasUserCode {
		codes = slices.DeleteFunc(codes, func(code Code) bool {
			switch code {
			case CodeNotFound:
				return !l.returnsOne
			case CodeTooManyRows:
				return l.statement != nil && l.rowType == nil // an Exec
			case CodeConflict, CodeUnknownEffect:
				return l.own.ReadOnly
			case CodeSkipped:
				return true
			}
			return false
		})
	}
	for _, domain := range l.options.OnConstraint {
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil && !slices.Contains(codes, ours.Code) {
			codes = append(codes, ours.Code)
		}
	}
	slices.SortFunc(codes, func(a, b Code) int {
		if at, other := slices.Index(allCodes, a), slices.Index(allCodes, b); at >= 0 && other >= 0 {
			return at - other
		} else if at >= 0 || other >= 0 {
			return other - at // one of the user's own, -1, comes last
		}
		return strings.Compare(string(a), string(b))
	})
	return codes
}
