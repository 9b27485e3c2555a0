package scaffold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/queryfile"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A query is what is known of a statement.
type query struct {
	queryfile.Query
	text      sqltext.Text      // of SQL; of a template, that with all its optional parts
	template  *sqltext.Template // nil of SQL without optional parts and choices
	statement *analysis.Statement
	columns   []pgconn.FieldDescription
	embeds    []embedded
	refused   string // why no definition can be written
	nulls     []bool // of the parameters: whether they may be NULL

	items    []item // of the list of the result
	combined bool
	stars    []int // how many columns each item is, in the order of items
}

// An embedded is a range of the columns that were one sqlc.embed.
type embedded struct {
	name     string
	from, to int
}

func (q *query) refuse(format string, args ...any) {
	if q.refused == "" {
		q.refused = fmt.Sprintf(format, args...)
	}
}

// asked reports whether the query is still to be asked about.
func (q *query) asked() bool { return q.refused == "" && q.Kind != "copyfrom" }

// A description is what the server says of a text.
type description struct {
	*pgconn.StatementDescription
	refused *pgconn.PgError
}

// describe asks for texts in one round trip. They have no names: nothing stays prepared.
func describe(ctx context.Context, conn *pgx.Conn, texts []string) ([]description, error) {
	p := conn.PgConn().StartPipeline(ctx)
	for _, sql := range texts {
		p.SendPrepare("", sql, nil)
		p.SendPipelineSync()
	}
	found := make([]description, len(texts))
	err := p.Flush()
	for i := range texts {
		for done := false; err == nil && !done; {
			var result any
			result, err = p.GetResults()
			if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
				found[i].refused, err = refused, nil
				continue
			}
			switch r := result.(type) {
			case *pgconn.StatementDescription:
				found[i].StatementDescription = r
			case *pgconn.PipelineSync:
				done = true
			}
		}
	}
	return found, errors.Join(err, p.Close())
}

// prepare reads the texts of queries, and names their parameters.
func prepare(queries []*query) {
	for _, q := range queries {
		sql, err := nameParams(q.SQL, false)
		if err == nil {
			q.moveEmbeds(sql)
			q.SQL = sql
			q.text, q.template, err = parse(sql)
		}
		if err != nil {
			q.refuse("%s", q.inFile(err.Error()))
		}
	}
}

// parse reads SQL. The text of a template is the variant with all optional parts and the default choices.
func parse(sql string) (sqltext.Text, *sqltext.Template, error) {
	template, err := sqltext.ParseTemplate(sql)
	if template == nil || err != nil {
		text, parseErr := sqltext.Parse(sql)
		return text, nil, cmp.Or(err, parseErr)
	}
	text, err := template.Text(sqltext.Variant{Parts: 1<<len(template.Parts) - 1})
	return text, template, err
}

// optional reports whether a placeholder is in optional parts alone.
func (q *query) optional(name string) bool {
	if q.template == nil {
		return false
	}
	without, err := q.template.Text(sqltext.Variant{})
	return err == nil && !slices.Contains(without.Names, name) &&
		slices.ContainsFunc(q.template.Parts, func(p sqltext.Part) bool { return slices.Contains(p.Names, name) })
}

// moveEmbeds finds the stars of the embeds in a text with other placeholders.
func (q *query) moveEmbeds(sql string) {
	for i := range q.Embeds {
		stars := strings.Count(q.SQL[:q.Embeds[i].Star], "*")
		at := -1
		for range stars + 1 {
			next := strings.IndexByte(sql[at+1:], '*')
			at += next + 1
		}
		q.Embeds[i].Star = at
	}
}

// inFile replaces the line:column with which a message of sqltext begins by the line of the file.
func (q *query) inFile(message string) string {
	var line, column int
	if _, err := fmt.Sscanf(message, "%d:%d: ", &line, &column); err != nil {
		return message
	}
	_, rest, _ := strings.Cut(message, ": ")
	return fmt.Sprintf("line %d: %s", q.SQLLine+line-1, rest)
}

// serverError says why the server refuses the query.
func (q *query) serverError(e *pgconn.PgError) string {
	message := e.Message
	if e.Position > 0 {
		before := []rune(q.text.SQL)
		before = before[:min(int(e.Position)-1, len(before))]
		message = fmt.Sprintf("line %d: %s", q.SQLLine+strings.Count(string(before), "\n"), message)
	}
	if e.Hint != "" {
		message += " (" + strings.TrimSuffix(e.Hint, ".") + ")"
	}
	if e.Code == "42P18" || e.Code == "42P08" {
		message += ": cast the parameter in the SQL, as in @name::text"
	}
	return message + ", SQLSTATE " + e.Code
}

// ask asks the server about the queries and the tables of their results, and writes their stars out.
func ask(ctx context.Context, conn *pgx.Conn, queries []*query, tables map[uint32]*table) error {
	if err := describeAll(ctx, conn, queries); err != nil {
		return err
	}
	var oids []uint32
	for _, q := range queries {
		for _, c := range q.columns {
			oids = append(oids, c.TableOID)
		}
	}
	if err := loadTables(ctx, conn, tables, oids); err != nil {
		return err
	}
	if err := expandStars(ctx, conn, queries, tables); err != nil {
		return err
	}
	if err := analyze(ctx, conn, queries); err != nil {
		return err
	}
	for _, q := range queries {
		if q.asked() {
			q.nameAfterColumns()
		}
	}
	return nil
}

// unclear is the name of a parameter that nothing beside it in the SQL tells of.
var unclear = regexp.MustCompile(`^arg[0-9]+$`)

// nameAfterColumns names parameters by the column that is set to them where the SQL does not say it: insert into t values
// ($1, $2).
func (q *query) nameAfterColumns() {
	taken, renamed := names{}, map[string]string{}
	for _, name := range q.text.Names {
		taken[name] = true
	}
	for i, name := range q.text.Names {
		yours := slices.ContainsFunc(q.Params, func(p queryfile.Param) bool { return p.Name == name })
		if i >= len(q.statement.Params) || yours || !unclear.MatchString(name) {
			continue
		}
		if sets := q.statement.Params[i].Sets; len(sets) == 1 {
			if column := columnWord(sets[0].Column); column != "" {
				renamed[name] = taken.numbered(column)
			}
		}
	}
	toks, err := sqltext.Lex(q.SQL)
	if len(renamed) == 0 || err != nil {
		return
	}
	var b strings.Builder
	copied := 0
	for _, t := range toks {
		if to := renamed[t.Name]; to != "" {
			b.WriteString(q.SQL[copied:t.Start] + "@" + to)
			copied = t.End
		}
	}
	sql := b.String() + q.SQL[copied:]
	if text, template, err := parse(sql); err == nil && len(text.Names) == len(q.text.Names) {
		q.SQL, q.text, q.template = sql, text, template
	}
}

// describeAll sets the columns.
func describeAll(ctx context.Context, conn *pgx.Conn, queries []*query) error {
	var texts []string
	for _, q := range queries {
		if q.asked() {
			texts = append(texts, q.text.SQL)
		}
	}
	found, err := describe(ctx, conn, texts)
	if err != nil {
		return err
	}
	i := 0
	for _, q := range queries {
		if !q.asked() {
			continue
		}
		d := found[i]
		if i++; d.refused != nil {
			q.refuse("%s", q.serverError(d.refused))
			continue
		}
		q.columns = d.Fields
	}
	return nil
}

// analyze sets the statements and which parameters may be NULL.
func analyze(ctx context.Context, conn *pgx.Conn, queries []*query) error {
	var asked []*query
	for _, q := range queries {
		if q.asked() {
			asked = append(asked, q)
		}
	}
	if err := analyzeAll(ctx, conn, asked); err != nil {
		return err
	}
	// Again, with what follows for parameters from the columns that they set: it tells more of the columns of the result.
	asked = slices.DeleteFunc(asked, func(q *query) bool {
		q.nulls = q.nullableParams()
		return len(q.nulls) == 0 || q.refused != "" || q.statement.NotAnalyzed != ""
	})
	return analyzeAll(ctx, conn, asked)
}

func analyzeAll(ctx context.Context, conn *pgx.Conn, asked []*query) error {
	given := make([]analysis.Query, len(asked))
	for i, q := range asked {
		given[i] = analysis.Query{SQL: q.text.SQL}
		for _, null := range q.nulls {
			can := analysis.Never
			if null {
				can = analysis.Maybe
			}
			given[i].Params = append(given[i].Params, can)
		}
	}
	statements, err := analysis.Analyze(ctx, conn, given...)
	if err != nil {
		return err
	}
	for i, q := range asked {
		if q.statement = statements[i]; q.statement.Refused != nil {
			q.refuse("%s", q.serverError(q.statement.Refused))
		}
	}
	return nil
}

// nullableParams tells for each parameter whether it may be NULL: sqlc.narg says so, or it is all that a column is set to
// which may be NULL, or the SQL asks whether it is. It may not if a column is set to it that is NOT NULL. A trigger could
// store something else: that it does is for the SQL to say, since most only set the time of a change.
func (q *query) nullableParams() []bool {
	nulls := make([]bool, len(q.statement.Params))
	for i, p := range q.statement.Params {
		nulls[i] = len(p.Sets) > 0 && !slices.ContainsFunc(p.Sets, func(c analysis.ColumnRef) bool { return c.Declared })
	}
	for i, name := range q.text.Names {
		at := slices.IndexFunc(q.Params, func(p queryfile.Param) bool { return p.Name == name })
		if i < len(nulls) && (at >= 0 && q.Params[at].Null || q.optional(name)) {
			nulls[i] = true
		}
	}
	toks, err := sqltext.Lex(q.text.SQL)
	if err != nil {
		return nulls
	}
	for i, t := range toks {
		if !t.Param {
			continue
		}
		after := afterCast(toks, i+1)
		// $1 is null, and coalesce($1, ...).
		isNull := after+1 < len(toks) && toks[after].Word == "is" && (toks[after+1].Word == "null" || toks[after+1].Word == "not" && after+2 < len(toks) && toks[after+2].Word == "null")
		coalesced := i > 1 && toks[i-1].Char == '(' && toks[i-2].Word == "coalesce"
		var n int
		if _, err := fmt.Sscanf(q.text.SQL[t.Start:t.End], "$%d", &n); err == nil && n <= len(nulls) && (isNull || coalesced) {
			nulls[n-1] = true
		}
	}
	for i, p := range q.statement.Params {
		isOptional := i < len(q.text.Names) && q.optional(q.text.Names[i])
		if !isOptional && slices.ContainsFunc(p.Sets, func(c analysis.ColumnRef) bool { return c.NotNull }) {
			nulls[i] = false
		}
	}
	return nulls
}

// canBeNull reports whether a column of the result can be NULL, which is so unless it is known not to be.
func (q *query) canBeNull(i int, origin *column) bool {
	if q.statement.NotAnalyzed == "" {
		return q.statement.Columns[i].Null != analysis.Never
	}
	// Without the server's query tree: the column of a table, where no outer join can leave it out.
	toks, err := sqltext.Lex(q.text.SQL)
	return err != nil || origin == nil || !origin.notNull ||
		slices.ContainsFunc(toks, func(t sqltext.Token) bool {
			return slices.Contains([]string{"left", "right", "full", "grouping", "rollup", "cube"}, t.Word)
		})
}
