package kinds

import (
	"context"
	"encoding/json"
	"iter"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/migrations"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// connect returns a pool on a database with the schema.
func connect(t *testing.T) *pgcmd.Pool {
	t.Helper()
	files, err := migrations.Read("migrations")
	require.NoError(t, err)
	var ddl []string
	for _, f := range files {
		for _, s := range f.Statements {
			if s.SQL != "lock table posts" { // which only a transaction may
				ddl = append(ddl, s.SQL)
			}
		}
	}
	return pgcmdtest.Connect(t, pgcmd.Config{Types: Types}, ddl...)
}

var all = []pgcmd.Definition{
	findPerson, getPerson, listPeople, namesOfPeople, peopleBut, countPeople, nickOfPerson, createPerson, renamePerson, changeBalance,
	deletePerson, deletePeopleWithTag, eachPerson, copyPeople, addressesOfPeople, createPost, retitlePost, postsOfPerson,
	getPostWithPerson, listPostsWithPeople, joinAll, leftJoin, popular, anyPopular, note, entries, titlesAndNotes, backtick, setTags, setName, nickEverybody, searchPeople, odd, insertOdd, fillOdd, changeMixed, insertMixed, retagOdd,
	insertEverything, copyEverything, allEverything, insertRequired, copyRequired, allRequired, nextDate, insertDomain, copyDomains, domains,
}

func TestVerifyFindsNothingAndWarnsOfNothing(t *testing.T) {
	t.Parallel()
	warnings, err := pgcmd.VerifyWarnings(t.Context(), connect(t), all...)
	require.NoError(t, err)
	assert.Empty(t, warnings)
}

func TestTheCommandsRun(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), connect(t)
	ada := run(t, createPerson, pool, CreatePersonParams{Email: "ada@example.com", FullName: "Ada L", Mood: MoodHappy,
		Moods: []Mood{MoodSoSo, MoodEmpty}, Home: &Address{Street: ptr("Main"), Zip: ptr(int32(1))}, Tags: []string{"a"}, Settings: json.RawMessage(`{"a": 1}`)})
	bob := run(t, createPerson, pool, CreatePersonParams{Email: "bob@example.com", FullName: "Bob", Nick: ptr("b"), Mood: MoodSoSo, Moods: []Mood{}, Tags: []string{},
		Settings: json.RawMessage(`{}`), Born: pgtype.Date{Time: time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC), Valid: true}})
	assert.Equal(t, []Mood{MoodSoSo, MoodEmpty}, ada.Moods)
	assert.Equal(t, &Address{ptr("Main"), ptr(int32(1))}, ada.Home)
	assert.False(t, ada.Born.Valid)
	assert.Equal(t, "2000-01-02", bob.Born.Time.Format(time.DateOnly))
	assert.Nil(t, bob.Home)

	assert.Equal(t, ada, run(t, findPerson, pool, FindPersonParams{"ada@example.com"}))
	assert.Equal(t, bob, run(t, getPerson, pool, bob.ID))
	_, err := getPerson.Run(ctx, pool, -1)
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	assert.Equal(t, []Person{ada, bob}, run(t, listPeople, pool, ListPeopleParams{Moods: []Mood{MoodHappy, MoodSoSo}, Limit: 10}))
	assert.Equal(t, []Person{bob}, run(t, listPeople, pool, ListPeopleParams{Moods: []Mood{MoodHappy, MoodSoSo}, Nick: ptr("b"), Limit: 10}))
	assert.Equal(t, []Person{ada, bob}, run(t, searchPeople, pool, SearchPeopleParams{Limit: 10}))
	assert.Equal(t, []Person{bob}, run(t, searchPeople, pool, SearchPeopleParams{Limit: 10, Sort: "newest", Email: ptr("bob%"), Nick: ptr("b"), Moods: []Mood{MoodHappy}, Offset: ptr(int64(0))}))
	assert.Equal(t, []NamesOfPeopleRow{{ada.ID, "Ada L"}}, run(t, namesOfPeople, pool, NamesOfPeopleParams{[]int64{ada.ID}}))
	assert.Equal(t, []NamesOfPeopleRow{{bob.ID, "Bob"}}, run(t, peopleBut, pool, PeopleButParams{[]int64{ada.ID}}))
	assert.EqualValues(t, 2, run(t, countPeople, pool, struct{}{}))
	assert.Equal(t, NickOfPersonRow{nil}, run(t, nickOfPerson, pool, ada.ID))
	assert.Equal(t, NickOfPersonRow{ptr("b")}, run(t, nickOfPerson, pool, bob.ID))
	_, err = nickOfPerson.Run(ctx, pool, -1)
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	assert.EqualValues(t, 1, run(t, renamePerson, pool, RenamePersonParams{"Robert", nil, bob.ID}))
	assert.Equal(t, []AddressesOfPeopleRow{{ada.ID, *ada.Home}}, run(t, addressesOfPeople, pool, AddressesOfPeopleParams{"ada"}))
	var emails []string
	for row, err := range pgcmd.Stream(ctx, pool, eachPerson, EachPersonParams{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)}) {
		require.NoError(t, err)
		emails = append(emails, row.Email)
	}
	assert.ElementsMatch(t, []string{"ada@example.com", "bob@example.com"}, emails)
	copied, err := copyPeople.Run(ctx, pool, one(CopyPeopleParams{"c@example.com", "C", nil, []string{"copied"}}))
	require.NoError(t, err)
	assert.EqualValues(t, 1, copied)
	assert.EqualValues(t, 1, run(t, deletePeopleWithTag, pool, DeletePeopleWithTagParams{"copied"}))
	balance := run(t, changeBalance, pool, ChangeBalanceParams{By: numeric(t, "1.50"), ID: ada.ID})
	assert.Equal(t, numeric(t, "1.50"), balance)

	created := run(t, createPost, pool, []CreatePostParams{{ada.ID, "One", nil}, {ada.ID, "Two", ptr("text")}})
	require.NoError(t, created.Err())
	_, err = createPost.Run(ctx, pool, []CreatePostParams{{ada.ID, "Three", nil}, {-1, "nobody's", nil}})
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
	first := created.Outcomes[0].Value
	require.NoError(t, run(t, retitlePost, pool, []RetitlePostParams{{"First", first}}).Err())
	posts := run(t, postsOfPerson, pool, []int64{ada.ID, bob.ID})
	require.NoError(t, posts.Err())
	require.Len(t, posts.Outcomes[0].Value, 2, "a batch that writes is all or nothing")
	assert.Equal(t, "First", posts.Outcomes[0].Value[0].Title)
	assert.Empty(t, posts.Outcomes[1].Value)
	assert.Equal(t, GetPostWithPersonRow{posts.Outcomes[0].Value[0], "ada@example.com"}, run(t, getPostWithPerson, pool, first))
	with := run(t, listPostsWithPeople, pool, struct{}{})
	require.Len(t, with, 2)
	assert.Equal(t, "first", with[0].Lower)
	assert.Equal(t, ada.ID, with[0].PersonID)
	assert.EqualValues(t, 2, with[0].Column20)
	assert.Len(t, run(t, leftJoin, pool, struct{}{}), 3)
	assert.Len(t, run(t, popular, pool, 0), 2)
	assert.Len(t, run(t, anyPopular, pool, struct{}{}), 2)
	assert.EqualValues(t, 1, run(t, note, pool, NoteParams{ada.ID, "hello"}))
	found := run(t, entries, pool, EntriesParams{time.Now().Add(-time.Hour), 1})
	require.Len(t, found, 1)
	assert.Equal(t, "hello", found[0].Note)
	joined := run(t, joinAll, pool, struct{}{})
	require.Len(t, joined, 2)
	assert.Equal(t, found[0].ID, joined[0].ID2)
	assert.Len(t, run(t, titlesAndNotes, pool, struct{}{}), 3)
	assert.Equal(t, []BacktickRow{{"`", "two\nlines", 3}}, run(t, backtick, pool, BacktickParams{"y"}))
	assert.EqualValues(t, 1, run(t, setName, pool, SetNameParams{"Bobby", nil, bob.ID}))
	assert.EqualValues(t, 2, run(t, nickEverybody, pool, nil))
	assert.EqualValues(t, 2, run(t, setTags, pool, SetTagsParams{[]string{"x"}}))
	_, err = setTags.Run(ctx, pool, SetTagsParams{})
	assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
	assert.EqualValues(t, 1, run(t, deletePerson, pool, bob.ID))
}

// pgx has to know domains over what it does not know itself, and those in arrays.
func TestDomainsOverEnumsAndArrays(t *testing.T) {
	t.Parallel()
	in := ChangeMixedParams{Moods: []Mood{MoodHappy}, Mood: ptr(MoodSoSo), List: []Mood{MoodSoSo}}
	rows, err := changeMixed.Run(t.Context(), connect(t), in)
	require.NoError(t, err)
	assert.Equal(t, []Mixed{{in.Moods, in.Mood, in.List}}, rows)
}

func TestAllTypesAreWrittenAndRead(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), connect(t)
	timestamp := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	date := pgtype.Date{Time: timestamp, Valid: true}
	part := Part{Number: ptr(int32(1)), Made: date, Colors: []string{"red"}, Mood: ptr(MoodSoSo)}
	assert.EqualValues(t, 1, run(t, insertEverything, pool, InsertEverythingParams{}))
	full := InsertEverythingParams{
		Bool: ptr(true), Int2: ptr(int16(2)), Int4: ptr(int32(4)), Int8: ptr(int64(8)), Float4: ptr(float32(0.5)), Float8: ptr(0.25),
		Numeric: numeric(t, "1.5"), OID: ptr(uint32(1)), Xid: ptr(uint32(2)), Xid8: ptr(uint64(3)), Cid: ptr(uint32(4)), Text: ptr("t"), Varchar: ptr("v"),
		Bpchar: ptr("abc"), Name: ptr("n"), Char: ptr("c"), Citext: ptr("Ci"), Bytea: []byte{0, 1}, JSON: json.RawMessage(`[1]`), JSONB: json.RawMessage(`{"a": 1}`),
		XML: ptr("<a/>"), UUID: ptr("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), Money: ptr("$1.00"), Date: date, Timestamp: &timestamp,
		Time: pgtype.Time{Microseconds: 5, Valid: true}, Timetz: ptr("10:00:00+02"), Interval: pgtype.Interval{Days: 1, Valid: true},
		Inet: ptr(netip.MustParseAddr("10.0.0.1")), CIDR: ptr(netip.MustParsePrefix("10.0.0.0/8")), Macaddr: net.HardwareAddr{1, 2, 3, 4, 5, 6},
		Macaddr8: net.HardwareAddr{1, 2, 3, 4, 5, 6, 7, 8}, PgLSN: ptr("0/10"), Regclass: ptr("people"), Point: pgtype.Point{P: pgtype.Vec2{X: 1, Y: 2}, Valid: true},
		Tsquery: ptr("'a' & 'b'"), Jsonpath: ptr(`$."a"`), Floats: ptr("[0.5,1.5)"), Mood: ptr(MoodEmpty), Part: &part, Positive: ptr(int32(7)),
		Address: &Address{Zip: ptr(int32(3))}, Bools: []bool{true}, Texts: []string{"a", ""}, Citexts: []string{"A"}, Byteas: [][]byte{{1}},
		JSONBs: []json.RawMessage{json.RawMessage(`1`)}, UUIDs: []string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, Dates: []pgtype.Date{date},
		Moods: []Mood{MoodHappy}, Parts: []Part{part}, Positives: []int32{1}, Matrix: [][]float64{{1, 2}, {3, 4}},
	}
	assert.EqualValues(t, 1, run(t, insertEverything, pool, full))
	_, err := copyEverything.Run(ctx, pool, one(CopyEverythingParams(full)))
	require.NoError(t, err)
	rows := run(t, allEverything, pool, struct{}{})
	require.Len(t, rows, 3)
	assert.Equal(t, Everything{}, rows[0])
	assert.Equal(t, Everything(full), rows[1])
	assert.Equal(t, Everything(full), rows[2])

	required := InsertRequiredParams{Numeric: numeric(t, "2"), Bytea: []byte{}, JSONB: json.RawMessage(`null`), UUID: *full.UUID, Date: date, Time: full.Time, Interval: full.Interval,
		Inet: *full.Inet, Macaddr: full.Macaddr, Point: full.Point, Tstzrange: pgtype.Range[pgtype.Timestamptz]{LowerType: pgtype.Empty, UpperType: pgtype.Empty, Valid: true},
		Mood: MoodSoSo, Part: part, Texts: []string{}, Moods: []Mood{}, Must: "y"}
	run(t, insertRequired, pool, required)
	assert.Equal(t, []Required{Required(required)}, run(t, allRequired, pool, struct{}{}))
	assert.Equal(t, pgtype.Date{Time: date.Time.AddDate(0, 0, 1), Valid: true}, run(t, nextDate, pool, date))
	// A domain that is NOT NULL refuses NULL, and may be NULL where it is read: by an outer join, say.
	run(t, insertDomain, pool, "z")
	_, err = copyDomains.Run(ctx, pool, one(CopyDomainsParams{"z"}))
	require.NoError(t, err)
	assert.Equal(t, []*string{ptr("z"), ptr("z")}, run(t, domains, pool, struct{}{}))
	_, err = copyRequired.Run(ctx, pool, one(CopyRequiredParams(required)))
	require.NoError(t, err)
}

func run[In, Out any](t *testing.T, c *pgcmd.Command[In, Out], db pgcmd.DB, in In) Out {
	t.Helper()
	out, err := c.Run(context.WithoutCancel(t.Context()), db, in)
	require.NoError(t, err)
	return out
}

func numeric(t *testing.T, text string) (n pgtype.Numeric) {
	t.Helper()
	require.NoError(t, n.Scan(text))
	return n
}

func one[Row any](row Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) { yield(row, nil) }
}

func ptr[T any](value T) *T { return &value }
