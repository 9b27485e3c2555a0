package pgcmd

// A Definition is a command of any input and output, for what takes many of them:
// every [Command] is one, and nothing else.
type Definition interface {
	Name() string
	definition()
}

func (c *Command[In, Out]) definition() {}
