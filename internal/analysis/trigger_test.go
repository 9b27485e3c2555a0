package analysis

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatATriggerMayChange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"begin return new; end":                                         nil,
		"begin return null; end":                                        nil,
		"begin new.a := 1; NEW.b = new.c + 1; return new; end":          {"a", "b", "c"},
		"begin select 1, 2 into new.a, new . \"B\"; Return\n New ; end": {"a", "b"},
		"begin if new.x > 1 then return null; end if; execute 'select 1' into new.y; return new; end": {"x", "y"},
		"declare renewed int; newer int; begin return new; end":                                       nil,
	} {
		columns, ok := namedOfNew(text)
		assert.True(t, ok, text)
		assert.Equal(t, want, columns, text)
	}
	for _, text := range []string{
		"begin return old; end",
		"begin return coalesce(new, old); end",
		"begin return (new); end",
		"begin return; end",
		"begin return new || x; end",
		"begin new := jsonb_populate_record(new, x); return new; end",
		"begin select * into new from t; return new; end",
		"declare n alias for new; begin n.a := 1; return new; end",
		"begin select new.* into r; return new; end",
		"begin \"new\".a := 1; return new; end",
		"begin u&\"ne\\0077\".a := 1; return new; end",
		"begin new/* */.a := 1; return new; end",
		"begin if x then return /* */ old; end if; return new; end",
	} {
		_, ok := namedOfNew(text)
		assert.False(t, ok, text)
	}
}
