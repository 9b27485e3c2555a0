package canned

import (
	"bytes"

	"github.com/jackc/pgx/v5/pgtype"
)

// A builtin holds the replies that every server has: what pgx sends of its own accord, and what a benchmark should not
// have to register.
type builtin struct {
	texts      map[string]*reply
	verbs      map[string]*reply // by the first word, for any text that begins with it
	rollbackTo *reply
}

func newBuiltin() builtin {
	empty := newCommand(nil, "")
	empty.native.rows, empty.text.rows = emptyQueryResponse, emptyQueryResponse
	begin, commit, rollback := newCommand(nil, "BEGIN"), newCommand(nil, "COMMIT"), newCommand(nil, "ROLLBACK")
	savepoint, release, rollbackTo := newCommand(nil, "SAVEPOINT"), newCommand(nil, "RELEASE"), newCommand(nil, "ROLLBACK")
	savepoint.inBlock, release.inBlock, rollbackTo.inBlock = true, true, true
	rollbackTo.state = inTransaction

	return builtin{
		texts: map[string]*reply{
			"":         empty,
			"-- ping":  empty,
			"select 1": newRows("", nil, []Column{{"?column?", pgtype.Int4OID}}, [][]any{{int32(1)}}),
		},
		verbs: map[string]*reply{
			"begin": begin, "start": begin,
			"commit": commit, "end": commit,
			"rollback": rollback, "abort": rollback,
			"savepoint":  savepoint,
			"release":    release,
			"set":        newCommand(nil, "SET"),
			"deallocate": newCommand(nil, "DEALLOCATE"),
			"discard":    newCommand(nil, "DISCARD ALL"),
		},
		rollbackTo: rollbackTo,
	}
}

// reply is nil for an unknown text.
func (b *builtin) reply(sql []byte) *reply {
	sql = bytes.TrimRight(bytes.TrimSpace(sql), "; \t\r\n")
	if r := b.texts[string(sql)]; r != nil {
		return r
	}
	if bytes.IndexByte(sql, ';') >= 0 {
		return nil // several statements would need several replies
	}
	verb, object, _ := bytes.Cut(sql, []byte(" "))
	r := b.verbs[string(verb)]
	if r == nil {
		r = b.verbs[string(bytes.ToLower(verb))] // pgx writes its own in lower case
	}
	if r == b.verbs["rollback"] {
		if to, _, _ := bytes.Cut(object, []byte(" ")); bytes.EqualFold(to, []byte("to")) {
			return b.rollbackTo
		}
	}
	return r
}
