package pgcmd

import "reflect"

// A Definition is a command of any input and output, for what takes many of them:
// every [Command] is one, and nothing else.
type Definition interface {
	Name() string
	parts() parts
	job() job                      // a run of it, whose input is to be set
	capped(maxRows int) Definition // with MaxRows
}

// parts is what a definition is made of. Who works on definitions works on these,
// so that it is compiled once and not again for every command.
type parts struct {
	core    *core
	in, out reflect.Type
	query   interface{ reveal(s *subject) } // nil for Go functions and AdHoc
	items   func() parts                    // of a batch, those of its items; nil for others
	hooked  bool                            // it has hooks that may change the error
}

func (c *Command[In, Out]) parts() parts {
	p := parts{core: &c.core, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), hooked: len(c.before)+len(c.after)+len(c.onError) > 0}
	p.query, _ = c.query.(interface{ reveal(s *subject) })
	if c.batching != nil {
		p.items = c.batching.items
	}
	return p
}

func (c *Command[In, Out]) job() job { return &task[In, Out]{c: c} }

func (c *Command[In, Out]) capped(maxRows int) Definition { return c.With(Options{MaxRows: maxRows}) }

// item is the command whose items a batch runs; of others it is they themselves.
func (p parts) item() parts {
	if p.items != nil {
		return p.items()
	}
	return p
}

// subject is what Verify has to know.
func (p parts) subject() *subject {
	item := p.item()
	s := &subject{name: p.core.name, options: item.core.opts, once: item.core.once || p.core.once, in: item.in}
	if item.query != nil {
		item.query.reveal(s)
	}
	return s
}

// statement is that of a command that is one; else it is nil.
func (p parts) statement() *statement {
	if p.query == nil {
		return nil
	}
	return p.subject().statement
}

// returnsRows reports whether MaxRows bounds the command: it is a Query, or a batch
// of them.
func (p parts) returnsRows() bool {
	item := p.item()
	return item.core.statement && item.out.Kind() == reflect.Slice
}

// returnsOne reports whether it is a QueryOne.
func (p parts) returnsOne() bool {
	s := p.subject()
	return p.query != nil && s.shape != nil && s.shape.typ == p.out
}
