package scaffold

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// expandStars writes the columns of each star of a result out, since a column that is added to a table later has no
// field in the row, and gives columns without a name of their own one. What the server then says has to be what it said
// before; else the SQL stays as it is.
func expandStars(ctx context.Context, conn *pgx.Conn, queries []*query, tables map[uint32]*table) error {
	if err := qualifyStars(ctx, conn, queries); err != nil {
		return err
	}
	if err := countStars(ctx, conn, queries); err != nil {
		return err
	}
	reserved, err := reservedWords(ctx, conn)
	if err != nil {
		return err
	}
	var changed []*query
	var texts []sqltext.Text
	var sources, plain []string
	for _, q := range queries {
		if !q.asked() || q.items == nil {
			continue
		}
		sql := q.expanded(reserved, tables)
		if sql == q.SQL {
			continue
		}
		text, _, err := parse(sql)
		if err != nil {
			continue
		}
		changed, texts, sources, plain = append(changed, q), append(texts, text), append(sources, sql), append(plain, text.SQL)
	}
	found, err := describe(ctx, conn, plain)
	if err != nil {
		return err
	}
	for i, q := range changed {
		if d := found[i]; d.refused == nil && sameColumns(q.columns, d.Fields) {
			q.SQL, q.text, q.columns = sources[i], texts[i], d.Fields
		} else {
			q.embeds = nil
		}
	}
	for _, q := range queries {
		q.checkNames()
	}
	return nil
}

// checkNames refuses columns that a row cannot tell apart, or cannot name.
func (q *query) checkNames() {
	if !q.asked() || !q.returnsRows() {
		return
	}
	for i, c := range q.columns {
		for _, other := range q.columns[:i] {
			if c.Name == other.Name {
				q.refuse("returns two columns named %s, and a row has one field for both: rename one with AS", c.Name)
			}
		}
		if !fitsTag(c.Name) && (len(q.columns) > 1 || strings.HasSuffix(q.Kind, "one")) { // else it is the value of the column
			q.refuse("returns a column named %q, which the tag of a field cannot name: rename it with AS", c.Name)
		}
	}
}

func (q *query) returnsRows() bool {
	switch q.Kind {
	case "one", "many", "iter", "batchone", "batchmany":
		return true
	}
	return false
}

// sameColumns reports whether columns differ in their names alone, and where the other name is a new one.
func sameColumns(before, after []pgconn.FieldDescription) bool {
	return slices.EqualFunc(before, after, func(a, b pgconn.FieldDescription) bool {
		return a.DataTypeOID == b.DataTypeOID && a.TableOID == b.TableOID && a.TableAttributeNumber == b.TableAttributeNumber && a.TypeModifier == b.TypeModifier
	})
}

// countStars finds how many columns each star of a result is: of one by counting the others, of several by asking what
// the statement returns with null in its place.
func countStars(ctx context.Context, conn *pgx.Conn, queries []*query) error {
	type variant struct {
		q    *query
		item int
	}
	var variants []variant
	var texts []string
	for _, q := range queries {
		if !q.asked() || !q.returnsRows() {
			continue
		}
		toks, err := sqltext.Lex(q.SQL)
		if err != nil {
			continue
		}
		q.items, q.combined = resultList(q.SQL, toks)
		q.stars = make([]int, len(q.items))
		var stars []int
		for i, it := range q.items {
			q.stars[i] = 1
			if it.star {
				stars = append(stars, i)
			}
		}
		switch len(stars) {
		case 0:
		case 1:
			q.stars[stars[0]] = len(q.columns) - len(q.items) + 1
		default:
			for _, i := range stars {
				sql := q.SQL[:q.items[i].start] + "null" + q.SQL[q.items[i].end:]
				if text, _, err := parse(sql); err == nil {
					variants = append(variants, variant{q, i})
					texts = append(texts, text.SQL)
				}
			}
		}
	}
	found, err := describe(ctx, conn, texts)
	if err != nil {
		return err
	}
	for i, v := range variants {
		v.q.stars[v.item] = -1
		if found[i].refused == nil {
			v.q.stars[v.item] = len(v.q.columns) - len(found[i].Fields) + 1
		}
	}
	for _, q := range queries {
		total := 0
		for _, n := range q.stars {
			total += n
			if n < 0 {
				total = -1
				break
			}
		}
		if total != len(q.columns) {
			q.items = nil
		}
	}
	return nil
}

// expanded returns the SQL with each star written out, and names for columns that have none of their own.
func (q *query) expanded(reserved map[string]bool, tables map[uint32]*table) string {
	renamed := newNames(q)
	conflicts := q.embedConflicts()
	q.embeds = nil
	used := names{} // by columns that are of no embed
	column := 0
	for i, it := range q.items {
		for k := column; k < column+q.stars[i] && q.embedAt(it) == ""; k++ {
			used[cmp.Or(renamed[k], q.columns[k].Name)] = true
		}
		column += q.stars[i]
	}
	var b strings.Builder
	copied := 0
	column = 0
	for i, it := range q.items {
		n := q.stars[i]
		columns, aliases := q.columns[column:column+n], renamed[column:column+n]
		embed := q.embedAt(it)
		if embed != "" {
			q.embeds = append(q.embeds, embedded{embed, column, column + n})
			if conflicts && n > 0 {
				prefix := embed
				if t := tables[columns[0].TableOID]; t != nil && q.embedsOnce(t, tables) {
					prefix = t.name
				}
				aliases = embedNames(singular(prefix), columns, used)
			}
		}
		column += n
		if !it.star {
			if alias := aliases[0]; alias != "" {
				b.WriteString(q.SQL[copied:it.end] + " as " + quoteIdentifier(alias, reserved))
				copied = it.end
			}
			continue
		}
		if q.combined || n == 0 { // a UNION has to have the same in each of its parts
			continue
		}
		b.WriteString(q.SQL[copied:it.start])
		var list []string
		for k, c := range columns {
			text := it.qualifier + quoteIdentifier(c.Name, reserved)
			if aliases[k] != "" {
				text += " as " + quoteIdentifier(aliases[k], reserved)
			}
			list = append(list, text)
		}
		b.WriteString(wrap(list, indentOf(q.SQL, it.start)))
		copied = it.end
	}
	b.WriteString(q.SQL[copied:])
	if conflicts {
		q.embeds = nil // its columns are fields of their own
	}
	return b.String()
}

// embedNames are names for the columns of an embed that begin with the name of its table. A column that begins with it
// keeps its name, unless another column has to have that.
func embedNames(table string, columns []pgconn.FieldDescription, used names) []string {
	var short, full []string
	for _, c := range columns {
		name := strings.Join(words(c.Name), "_")
		full = append(full, table+"_"+name)
		if !strings.HasPrefix(name, table+"_") {
			name = table + "_" + name
		}
		short = append(short, name)
	}
	for i, name := range short {
		if used[name] || slices.Contains(short[:i], name) {
			short = full
			break
		}
	}
	for i, name := range short {
		if used[name] {
			name = used.numbered(name)
		}
		used[name] = true
		short[i] = name
	}
	return short
}

// wrap writes a list in one line, or if it is long in several.
func wrap(list []string, indent string) string {
	const width = 90
	if line := strings.Join(list, ", "); len(line) <= width {
		return line
	}
	var b strings.Builder
	line := 0
	for i, text := range list {
		if i > 0 && line+len(text) > width {
			b.WriteString(",\n" + indent)
			line = 0
		} else if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text)
		line += len(text) + 2
	}
	return b.String()
}

// embedsOnce reports whether the columns of a table are those of one sqlc.embed alone.
func (q *query) embedsOnce(t *table, tables map[uint32]*table) bool {
	embeds, column := 0, 0
	for i, it := range q.items {
		if q.stars[i] > 0 && q.embedAt(it) != "" && tables[q.columns[column].TableOID] == t {
			embeds++
		}
		column += q.stars[i]
	}
	return embeds == 1
}

// indentOf returns the space for a line that goes on with what is at a place: as in its own line, or a tab more if the
// line begins with something else.
func indentOf(sql string, at int) string {
	line := sql[strings.LastIndexByte(sql[:at], '\n')+1 : at]
	space := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if len(space) == len(line) {
		return space
	}
	return space + "    "
}

// newNames are the names for columns that have none, or one that another column has, and nothing for all others. The
// columns of a star give way, since the others may have been named by AS.
func newNames(q *query) []string {
	renamed := make([]string, len(q.columns))
	used, seen := names{}, map[string]bool{}
	for _, c := range q.columns {
		used[c.Name] = true
	}
	for _, ofStar := range []bool{false, true} {
		column := 0
		for i, it := range q.items {
			for range q.stars[i] {
				name := q.columns[column].Name
				if it.star == ofStar {
					switch {
					case name == "?column?" && len(q.columns) > 1, !fitsTag(name) && len(words(name)) == 0:
						renamed[column] = used.take(fmt.Sprintf("column_%d", column+1), "")
					case !fitsTag(name):
						renamed[column] = used.numbered(strings.Join(words(name), "_"))
					case seen[name]:
						renamed[column] = used.numbered(name)
					}
					seen[name] = true
				}
				column++
			}
		}
	}
	return renamed
}

// qualifyStars replaces a star of several tables whose columns have the same names by a star of each table.
func qualifyStars(ctx context.Context, conn *pgx.Conn, queries []*query) error {
	var changed []*query
	var texts []sqltext.Text
	var sources, plain []string
	for _, q := range queries {
		if !q.asked() || !q.returnsRows() || !q.hasTwins() {
			continue
		}
		toks, err := sqltext.Lex(q.SQL)
		if err != nil {
			continue
		}
		items, _ := resultList(q.SQL, toks)
		at := slices.IndexFunc(items, func(it item) bool { return it.star && it.qualifier == "" })
		tables := fromNames(q.SQL, toks)
		if at < 0 || len(tables) < 2 {
			continue
		}
		sql := q.SQL[:items[at].start] + strings.Join(tables, ".*, ") + ".*" + q.SQL[items[at].end:]
		if text, _, err := parse(sql); err == nil {
			changed, texts, sources, plain = append(changed, q), append(texts, text), append(sources, sql), append(plain, text.SQL)
		}
	}
	found, err := describe(ctx, conn, plain)
	if err != nil {
		return err
	}
	for i, q := range changed {
		if d := found[i]; d.refused == nil && sameColumns(q.columns, d.Fields) {
			q.moveEmbeds(sources[i])
			q.SQL, q.text, q.columns = sources[i], texts[i], d.Fields
		}
	}
	return nil
}

// fitsTag reports whether the tag db of a field can name a column: "-" leaves the field out, and a comma ends the name.
func fitsTag(name string) bool { return name != "-" && !strings.Contains(name, ",") }

// hasTwins reports whether two columns have one name.
func (q *query) hasTwins() bool {
	seen := map[string]bool{}
	for _, c := range q.columns {
		if seen[c.Name] {
			return true
		}
		seen[c.Name] = true
	}
	return false
}

// embedAt returns the name of the sqlc.embed that an item was, or "".
func (q *query) embedAt(it item) string {
	for _, e := range q.Embeds {
		if it.star && e.Star == it.end-1 {
			return e.Name
		}
	}
	return ""
}

// embedConflicts reports whether a column of an embed has the name of another column, so that the embedded structs could
// not be told apart.
func (q *query) embedConflicts() bool {
	inEmbed := map[string]bool{}
	column := 0
	for i, it := range q.items {
		for _, c := range q.columns[column : column+q.stars[i]] {
			key := strings.ToLower(strings.ReplaceAll(c.Name, "_", ""))
			if before, seen := inEmbed[key]; seen && (before || q.embedAt(it) != "") {
				return true
			}
			inEmbed[key] = q.embedAt(it) != ""
		}
		column += q.stars[i]
	}
	return false
}

var plainIdentifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func quoteIdentifier(name string, reserved map[string]bool) string {
	if plainIdentifier.MatchString(name) && !reserved[name] {
		return name
	}
	return pgx.Identifier{name}.Sanitize()
}

// reservedWords are those that are not names of columns everywhere.
func reservedWords(ctx context.Context, conn *pgx.Conn) (map[string]bool, error) {
	rows, err := pgrows.Query(ctx, conn, "select word from pg_catalog.pg_get_keywords() where catcode in ('R', 'T')")
	reserved := map[string]bool{}
	for _, row := range rows {
		reserved[row[0]] = true
	}
	return reserved, err
}
