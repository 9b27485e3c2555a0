package sqltext

import (
	"fmt"
	"slices"
	"strings"
)

// A Template is SQL with optional parts and choices, of which every variant is one statement:
//
//	select id from users u where true /*? and u.email like @email */
//	order by /*= @sort newest: u.created_at desc; email: u.email */ u.id /*=*/
//
// The marks are comments: as it is written, the text is the variant without parts and with the defaults.
type Template struct {
	SQL     string // as it was written
	Names   []string
	Parts   []Part
	Choices []Choice
	regions []region
}

// A Part is in a variant, or is not.
type Part struct {
	Names []string // the placeholders in it, at least one
	SQL   string   // without its marks
	at    int
}

// A Choice is one of several texts of SQL, and may be at several places.
type Choice struct {
	Name    string   // of the field that chooses
	Options []string // the names of the texts, without that of the default, which has none
	at      int
}

// Limits of a template, by which a Variant is two numbers.
const (
	MaxParts   = 64
	MaxChoices = 8
	MaxOptions = 255
)

// A Variant identifies a variant of a Template.
type Variant struct {
	Parts   uint64 // bit i is set if part i is in it
	Choices uint64 // byte i is the option of choice i, from 1; 0 is the default
}

// Option returns the option of choice i, from 1; 0 is the default.
func (v Variant) Option(i int) int { return int(v.Choices >> (8 * i) & 0xff) }

// WithOption returns v with an option of choice i.
func (v Variant) WithOption(i, option int) Variant {
	v.Choices = v.Choices&^(0xff<<(8*i)) | uint64(option)<<(8*i)
	return v
}

// A region of the source is replaced in a variant.
type region struct {
	span
	part, choice int    // the index of one of them; the other is -1
	texts        []span // of the part; of the choice: its default, and then its options
	afterLiteral bool
}

type span struct{ start, end int }

// ParseTemplate finds the optional parts and choices in sql. It returns nil for SQL without. Errors begin with
// line:column and say how to fix it.
func ParseTemplate(sql string) (*Template, error) {
	if !strings.Contains(sql, "/*?") && !strings.Contains(sql, "/*=") {
		return nil, nil
	}
	if err := isText(sql); err != nil {
		return nil, err
	}
	l := lexer{src: sql}
	toks, err := l.tokens()
	switch {
	case err != nil && len(l.marks) > 0:
		return nil, withinMark(err)
	case err != nil || len(l.marks) == 0:
		return nil, err
	}
	p := templateParser{Template: &Template{SQL: sql}, toks: toks, named: slices.Clone(toks)}
	for i := 0; i < len(l.marks); i++ {
		m := l.marks[i]
		switch {
		case sql[m.start+2] == '?':
			err = p.part(m)
		case p.isEnd(m):
			err = errorAt(sql, m.start, "this ends a choice, and none has begun: begin it with /*= @field name: SQL */ before its default")
		case i+1 == len(l.marks) || !p.isEnd(l.marks[i+1]):
			err = errorAt(sql, m.start, "the choice that begins here has no end before the next mark: write /*=*/ after its default")
		default:
			err = p.choice(m, l.marks[i+1])
			i++
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(p.named, func(a, b token) int { return a.start - b.start })
	p.Names = names(sql, p.named)
	return p.Template, nil
}

type templateParser struct {
	*Template
	toks  []token // of the source
	named []token // and those in marks
}

// withinMark adds to an error why something may seem to have no end.
func withinMark(err error) error {
	return fmt.Errorf("%w (an optional part and the list of a choice end as comments do, at */, even if that is in a literal)", err)
}

// isEnd reports whether a mark is that at the end of a choice.
func (p *templateParser) isEnd(m span) bool {
	return p.SQL[m.start+2] == '=' && strings.TrimSpace(p.SQL[m.start+3:m.end-2]) == ""
}

// ErrorAt is an error about a part.
func (t *Template) ErrorAt(p Part, format string, args ...any) error {
	return errorAt(t.SQL, p.at, format, args...)
}

// ErrorAtChoice is an error about a choice.
func (t *Template) ErrorAtChoice(c Choice, format string, args ...any) error {
	return errorAt(t.SQL, c.at, format, args...)
}

// part takes in the optional part that is the comment m.
func (p *templateParser) part(m span) error {
	l := lexer{src: p.SQL[:m.end-2], pos: m.start + 3}
	toks, err := l.tokens()
	switch {
	case err != nil:
		return withinMark(err)
	case len(l.marks) > 0:
		return errorAt(p.SQL, l.marks[0].start, "an optional part or a choice cannot be within an optional part: put it after the part")
	case len(toks) == 0:
		return errorAt(p.SQL, m.start, "the optional part is empty: write SQL that names a field, or take it away")
	case len(p.Parts) == MaxParts:
		return errorAt(p.SQL, m.start, "there are more than %d optional parts: make two commands of it", MaxParts)
	}
	if err := p.oneStatement(toks); err != nil {
		return err
	}
	text := span{toks[0].start, toks[len(toks)-1].end}
	part := Part{Names: names(p.SQL, toks), SQL: p.SQL[text.start:text.end], at: m.start}
	if len(part.Names) == 0 {
		return errorAt(p.SQL, m.start, "the optional part names no field, so that nothing says when it is sent: name one that can be absent, as in @name")
	}
	p.regions = append(p.regions, region{span: m, part: len(p.Parts), choice: -1, texts: []span{text}, afterLiteral: p.afterLiteral(m)})
	p.Parts, p.named = append(p.Parts, part), append(p.named, toks...)
	return nil
}

// choice takes in the choice that the comment begin lists, and end ends.
func (p *templateParser) choice(begin, end span) error {
	l := lexer{src: p.SQL[:begin.end-2], pos: begin.start + 3}
	const syntax = "as in /*= @sort newest: created_at desc; name: lower(name) */ id /*=*/"
	if err := l.space(); err != nil {
		return err
	}
	field := l.pos
	if k, err := l.token(); err != nil || k != placeholder {
		return errorAt(p.SQL, begin.start, "the choice names no field: begin it with the name of a string field, %s", syntax)
	}
	c := Choice{Name: p.SQL[field+1 : l.pos], at: begin.start}
	r := region{span: span{begin.start, end.end}, part: -1, afterLiteral: p.afterLiteral(begin), texts: []span{p.spanOf(begin.end, end.start)}}
	for _, t := range p.toks {
		if t.start >= begin.end && t.end <= end.start {
			if err := p.oneStatement([]token{t}); err != nil {
				return err
			}
		}
	}
	for {
		if err := l.space(); err != nil {
			return err
		}
		start := l.pos
		if start == len(l.src) {
			break
		}
		l.skip(func(b byte) bool { return isName(b) || b == '-' || b == '.' })
		option := p.SQL[start:l.pos]
		if err := l.space(); err != nil {
			return err
		}
		if option == "" || !l.has(":") || l.has("::") {
			return errorAt(p.SQL, start, "the choice has no name here: write each text after its name and a colon, and a semicolon between two, %s", syntax)
		}
		if slices.Contains(c.Options, option) {
			return errorAt(p.SQL, start, "the choice has the name %s twice: rename one", option)
		}
		l.pos++
		text, err := p.option(&l)
		if err != nil {
			return err
		}
		if text.start == text.end {
			return errorAt(p.SQL, start, "the choice has no SQL for %s: write some after the colon, or make it the default, which may be empty", option)
		}
		c.Options, r.texts = append(c.Options, option), append(r.texts, text)
	}
	if len(l.marks) > 0 {
		return errorAt(p.SQL, l.marks[0].start, "an optional part or a choice cannot be within a choice: put it after the choice")
	}
	if len(c.Options) == 0 || len(c.Options) > MaxOptions {
		return errorAt(p.SQL, begin.start, "the choice has %d names, and can have 1 to %d, %s", len(c.Options), MaxOptions, syntax)
	}
	return p.addChoice(c, r)
}

// option reads the SQL of an option, up to the semicolon after it.
func (p *templateParser) option(l *lexer) (text span, err error) {
	var toks []token
	for {
		if err := l.space(); err != nil {
			return text, err
		}
		if l.pos == len(l.src) {
			break
		}
		t, err := l.next()
		if err != nil {
			return text, withinMark(err)
		}
		if t.kind == ';' {
			break
		}
		toks = append(toks, t)
	}
	if len(toks) == 0 {
		return span{}, nil
	}
	p.named = append(p.named, toks...)
	return span{toks[0].start, toks[len(toks)-1].end}, p.oneStatement(toks)
}

// addChoice adds a choice, or another place of one.
func (p *templateParser) addChoice(c Choice, r region) error {
	at := slices.IndexFunc(p.Choices, func(known Choice) bool { return known.Name == c.Name })
	if at < 0 {
		if at = len(p.Choices); at == MaxChoices {
			return errorAt(p.SQL, c.at, "there are more than %d choices: make two commands of it", MaxChoices)
		}
		p.Choices = append(p.Choices, c)
	}
	options := p.Choices[at].Options
	if !slices.Equal(slices.Sorted(slices.Values(options)), slices.Sorted(slices.Values(c.Options))) {
		return errorAt(p.SQL, c.at, "the choice by @%s has other names here than before (%s): give it the same", c.Name, strings.Join(options, ", "))
	}
	r.choice = at
	texts := r.texts[:1:1]
	for _, name := range options {
		texts = append(texts, r.texts[1+slices.Index(c.Options, name)])
	}
	r.texts = texts
	p.regions = append(p.regions, r)
	return nil
}

// oneStatement refuses tokens that a piece of a statement cannot have.
func (p *templateParser) oneStatement(toks []token) error {
	for _, t := range toks {
		switch t.kind {
		case ';':
			return errorAt(p.SQL, t.start, "a second statement begins here: one command is one statement")
		case parameter:
			return errorAt(p.SQL, t.start, "%s is a number: SQL with optional parts or choices names the fields of a struct, as in @name", p.SQL[t.start:t.end])
		}
	}
	return nil
}

// spanOf is what the tokens between two positions are, without the comments around them.
func (p *templateParser) spanOf(start, end int) span {
	s := span{end, end}
	for _, t := range p.toks {
		if t.start >= start && t.end <= end {
			s = span{min(s.start, t.start), t.end}
		}
	}
	return s
}

// afterLiteral reports whether m comes after a literal, which PostgreSQL would join with one that follows.
func (p *templateParser) afterLiteral(m span) bool {
	i, _ := slices.BinarySearchFunc(p.toks, m.start, func(t token, pos int) int { return t.start - pos })
	return i > 0 && p.SQL[p.toks[i-1].end-1] == '\''
}

// names lists the placeholders in toks, each once.
func names(sql string, toks []token) (found []string) {
	for _, t := range toks {
		if name := sql[t.start+1 : t.end]; t.kind == placeholder && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

// Text is the statement of a variant. Its lines are those of the source.
func (t *Template) Text(v Variant) (Text, error) { return Parse(t.write(v)) }

func (t *Template) write(v Variant) string {
	var out strings.Builder
	copied := 0
	for _, r := range t.regions {
		out.WriteString(t.SQL[copied:r.start])
		copied = r.end
		var text span
		if r.choice >= 0 {
			text = r.texts[v.Option(r.choice)]
		} else if v.Parts>>r.part&1 == 1 {
			text = r.texts[0]
		}
		if text.start == text.end {
			writeGap(&out, t.SQL[r.start:r.end], r.afterLiteral)
			continue
		}
		writeGap(&out, t.SQL[r.start:text.start], r.afterLiteral)
		out.WriteString(t.SQL[text.start:text.end])
		writeGap(&out, t.SQL[text.end:r.end], t.SQL[text.end-1] == '\'')
	}
	out.WriteString(t.SQL[copied:])
	return out.String()
}

// writeGap writes white space with as many lines as what is left out. After a literal it begins with a comment, since
// PostgreSQL joins two literals that are separated by white space with a new line in it alone.
func writeGap(out *strings.Builder, skipped string, afterLiteral bool) {
	if afterLiteral {
		out.WriteString("/**/")
	}
	if lines := strings.Count(skipped, "\n"); lines > 0 {
		out.WriteString(strings.Repeat("\n", lines))
	} else {
		out.WriteByte(' ')
	}
}

// And returns what can be said of a statement that is t or other: what each of them may do, and only what both surely
// are. The SQL and the names stay those of t.
func (t Text) And(other Text) Text {
	t.Writes = t.Writes || other.Writes
	t.Reads = t.Reads && other.Reads
	t.ChangesNothing = t.ChangesNothing && other.ChangesNothing
	t.ChangesOnlyRows = t.ChangesOnlyRows && other.ChangesOnlyRows
	t.Ends = t.Ends || other.Ends
	t.MayEnableWrites = t.MayEnableWrites || other.MayEnableWrites
	if t.Verb != other.Verb {
		t.Verb = ""
	}
	return t
}
