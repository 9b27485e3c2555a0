package scaffold

import (
	"go/constant"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"user_id": "UserID", "userId": "UserID", "APIKey": "APIKey", "api_keys": "APIKeys", "HTTPServer": "HTTPServer", "ids": "IDs", "createOAuth": "CreateOAuth",
		"fullName": "FullName", "v1_task": "V1Task", "?column?": "Column", "1st": "X1st", "": "X", "ünder_x": "ÜnderX", "日本": "X日本", "A": "A", "userIDs": "UserIDs",
		"op!en": "OpEn", "URLPath2": "URLPath2", "AnalyzeV1DAGsOLAP": "AnalyzeV1DAGsOLAP", "ListURNsByKMSKey": "ListURNsByKMSKey", "kms_key": "KmsKey", "KMS_KEY": "KmsKey", "sso_urns": "SSOURNs", "api_urls": "APIURLs", "Has": "Has",
	} {
		assert.Equal(t, want, exported(name), name)
	}
	for name, want := range map[string]string{"FindUser": "findUser", "IDs": "ids", "APIKeys": "apiKeys", "KMSKey": "kmsKey", "OAuthApps": "oauthApps", "Type": "typeCommand", "Init": "initCommand", "Delete": "deleteCommand", "Int": "intCommand", "X": "x", "_1STUser": "x1STUser"} {
		assert.Equal(t, want, unexported(name), name)
	}
	for name, want := range map[string]string{
		"users": "user", "cities": "city", "statuses": "status", "status": "status", "addresses": "address", "boxes": "box", "news": "news", "people": "person",
		"user_accounts": "user_account", "analysis": "analysis", "movies": "movie", "branches": "branch", "caches": "cache", "bus": "bus", "s": "s", "v1_tasks_olap": "v1_tasks_olap",
	} {
		assert.Equal(t, want, singular(name), name)
	}
	taken := names{}
	for _, c := range [][3]string{
		{"users", "FindUser", "users.find"}, {"users", "ListUsers", "users.list"}, {"users", "FindUsers", "users.find_users"}, {"users", "User", "users.user"},
		{"city", "UpdateCityName", "city.update_name"}, {"user_roles", "FindUserRole", "user_roles.find_user_role"},
	} {
		assert.Equal(t, c[2], commandName(c[0], c[1], taken))
	}
}

// Go leaves out files that begin with _ or are for another system, and takes no name that begins with a mark.
func TestGoReadsTheFileOfASQLFile(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"users.sql": "users.sql.go", "user_roles.sql": "user_roles.sql.go", "linux.sql": "linux.sql.go", "users_test.sql": "users_test.sql.go", "日本.sql": "日本.sql.go",
		"devices_ios.sql": "devices_ios_sql.go", "a_windows_amd64.sql": "a_windows_amd64_sql.go", "b_linux_test.sql": "b_linux_test_sql.go",
		"_users.sql": "users.sql.go", "-@users.sql": "users.sql.go", ".sql": "sql.go",
	} {
		assert.Equal(t, want, goFile(sql), sql)
	}
}

// What Go reads is the SQL of the file, whatever a raw literal cannot hold.
func TestTheLiteralIsTheSQL(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"select 1", "select '`' || `", "select 'a\rb'", "select 1 -- a\r+ 1", "select '\ufeff'", "select '\ufeff\r`\n'"} {
		literal := strings.TrimSpace(sqlLiteral(sql, 0))
		value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, literal)
		require.NoError(t, err, literal)
		assert.Equal(t, sql, strings.TrimPrefix(constant.StringVal(value.Value), "\n"))
	}
}

func TestParametersAreNamedByWhatIsBesideThem(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"select $1":                         "select $1",
		"select 1":                          "select 1",
		"select $1, $1":                     "select $1, $1",
		`update t set "1st" = $1, b = $2`:   `update t set "1st" = @x1st, b = @b`,
		"select $2":                         "select @arg2",
		"select @a, $1":                     "select @a, @arg1",
		"select $1, @arg1":                  "select @arg1_2, @arg1",
		"select * from t where a=$1 and $2": "select * from t where a= @a and @arg2",
		"select 1 from t where a = $1 and b.c <> $2 and $3 < \"d E\"":                                     "select 1 from t where a = @a and b.c <> @c and @d_e < \"d E\"",
		"select 1 from t where a = any($1) and b in ($2, $3)":                                             "select 1 from t where a = any(@as) and b in (@b, @b_2)",
		"select 1 from t where lower(a) = lower($1) and b::text like $2":                                  "select 1 from t where lower(a) = lower(@a) and b::text like @b",
		"select 1 from t where a between $1 and $2 and c > $3 limit $4 offset $5":                         "select 1 from t where a between @a_from and @a_to and c > @c limit @limit offset @offset",
		"select 1 from t where lower(a) like lower($1) and b not in (select unnest($2::int[])) and c":     "select 1 from t where lower(a) like lower(@a) and b not in (select unnest(@bs::int[])) and c",
		"insert into t (a, \"bC\") values ($1, coalesce($2, now()))":                                      "insert into t (a, \"bC\") values (@a, coalesce(@b_c, now()))",
		"insert into t (a, b) select $1, $2::int[] from u where a = $1":                                   "insert into t (a, b) select @a, @b::int[] from u where a = @a",
		"with n as (insert into t (a, b) values ($1, $2) returning *) insert into u (c) select $3 from n": "with n as (insert into t (a, b) values (@a, @b) returning *) insert into u (c) select @c from n",
		"select a = $1, $2": "select a = @a, @arg2",
		"select f($1, $2) from t where (a, b) = ($3, $4)":                                            "select f(@arg1, @arg2) from t where (a, b) = (@arg3, @arg4)",
		"update t set a = $1, b = b + $2 where a = $3":                                               "update t set a = @a, b = b + @b where a = @a_2",
		"select f($1, x => $2), $3::numeric(10, 2) = price, $4::timestamp with time zone <= made_at": "select f(@arg1, x => @x), @price::numeric(10, 2) = price, @made_at::timestamp with time zone <= made_at",
		"select '$1', $1, $2 -- $3":                                                                  "select '$1', @arg1, @arg2 -- $3",
		"select a ilike '%' || $1 || '%', $2 = any(tags)":                                            "select a ilike '%' || @arg1 || '%', @tag = any(tags)",
	} {
		named, err := nameParams(sql, false)
		require.NoError(t, err)
		assert.Equal(t, want, named, sql)
	}
}

func TestTheListOfTheResultIsFound(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"select a, b.*, f(c, d), array[1, 2] from t":                               {"a", "b.*", "f(c, d)", "array[1, 2]"},
		"select distinct on (a, b) a is distinct from b x, * from t":               {"a is distinct from b x", "*"},
		"select all extract(year from d) as from_ union select 1":                  {"extract(year from d) as from_"},
		"with x as (select * from t) select x.* from x":                            {"x.*"},
		"with recursive x (a) as (select 1) update t set a = 1 returning *, a + 1": {"*", "a + 1"},
		"insert into t values (1) on conflict do nothing returning id":             {"id"},
		"delete from t":               nil,
		"values (1)":                  nil,
		"(select 1) union (select 2)": nil,
		"select":                      nil,
		"update t set a = 1 returning with (old as o) *": nil,
	} {
		toks, err := sqltext.Lex(sql)
		require.NoError(t, err)
		items, combined := resultList(sql, toks)
		var found []string
		for _, it := range items {
			found = append(found, sql[it.start:it.end])
			assert.Equal(t, strings.HasSuffix(sql[it.start:it.end], "*"), it.star)
		}
		assert.Equal(t, want, found, sql)
		assert.Equal(t, strings.Contains(sql, " union select"), combined, sql)
	}
}

func TestTheTablesOfFromAreFound(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"select * from a, b.c d join \"E\" as f on a.x = f.y left join lateral (select 1) g using (z) where a": {"a", "d", "f", "g"},
		"select * from f(1, 2) as x cross join only y natural join z order by 1":                               {"x", "y", "z"},
		"select 1": nil,
	} {
		toks, err := sqltext.Lex(sql)
		require.NoError(t, err)
		assert.Equal(t, want, fromNames(sql, toks), sql)
	}
}

func TestTheColumnsOfAnEmbedHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	columns := func(names ...string) (columns []pgconn.FieldDescription) {
		for _, name := range names {
			columns = append(columns, pgconn.FieldDescription{Name: name})
		}
		return columns
	}
	used := names{"person_id": true}
	assert.Equal(t, []string{"person_id_2", "person_full_name"}, embedNames("person", columns("id", "fullName"), used))
	assert.Equal(t, []string{"post_id", "post_title"}, embedNames("post", columns("post_id", "title"), used))
	assert.Equal(t, []string{"key_key_id", "key_id"}, embedNames("key", columns("key_id", "id"), used))
}

// The literal of Go holds the tokens of the SQL, and the line breaks within them.
func FuzzSQLLiteral(f *testing.F) {
	for _, sql := range []string{"select 1", "select `a`\n  from t", "  select 'a\n b'\n    from t", "select\n\t1 -- c\n\n", "`", "a\r\nb", "$$\n`\n$$"} {
		f.Add(sql, 2)
	}
	f.Fuzz(func(t *testing.T, sql string, indent int) {
		toks, err := sqltext.Lex(sql)
		if err != nil || len(toks) == 0 || strings.Contains(sql, "\r") || indent < 0 {
			return // no SQL that scaffold is given
		}
		literal := sqlLiteral(sql, indent)
		value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, literal)
		if err != nil {
			t.Fatalf("%s: %v", literal, err)
		}
		text := constant.StringVal(value.Value)
		again, err := sqltext.Lex(text)
		if err != nil || len(again) != len(toks) {
			t.Fatalf("%q is %q: %v", sql, text, err)
		}
		for i := range toks {
			if a, b := sql[toks[i].Start:toks[i].End], text[again[i].Start:again[i].End]; a != b {
				t.Fatalf("%q is %q", a, b)
			}
		}
	})
}

// Whatever the SQL, naming its parameters leaves every other token as it was.
func FuzzNameParams(f *testing.F) {
	for _, sql := range []string{"select $1, $2", "insert into t (a, b) values ($1, $2)", "a=$1 and b in ($2,$3)", "$1::int[] = any(x) limit $2", "($1", "values ($1", "insert into t (", "x between $1 and $2"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		toks, err := sqltext.Lex(sql)
		if err != nil {
			return // no SQL that scaffold is given
		}
		named, err := nameParams(sql, false)
		if err != nil {
			t.Fatal(err)
		}
		again, err := sqltext.Lex(named)
		if err != nil || len(again) != len(toks) {
			t.Fatalf("%q is %q: %v", sql, named, err)
		}
		of := map[string]string{}
		for i := range toks {
			a, b := sql[toks[i].Start:toks[i].End], named[again[i].Start:again[i].End]
			if toks[i].Param && again[i].Name != "" {
				if before, seen := of[a]; seen && before != b {
					t.Fatalf("%s is both %s and %s", a, before, b)
				}
				of[a] = b
			} else if a != b {
				t.Fatalf("%q is %q in %q", a, b, named)
			}
		}
		resultList(named, again)
		fromNames(named, again)
	})
}
