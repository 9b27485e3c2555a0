package sqltext

import "testing"

func TestEndsTransaction(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		`commit`: true, `COMMIT AND CHAIN`: true, `/* the */ end work`: true, `abort`: true, `rollback`: true,
		`rollback and chain`: true, `rollback work`: true, `prepare transaction 'x'`: true, `select 1; commit; begin`: true,
		`rollback to savepoint s`: false, `rollback transaction to s`: false, `savepoint s; rollback to s; release s`: false,
		`prepare p as select 1`: false, `select case when true then 1 end`: false, `select 'commit', 1 as "end"`: false,
		`insert into t values (1) -- ; commit`: false, `select 'open`: true,
	} {
		if got := EndsTransaction(sql); got != want {
			t.Errorf("EndsTransaction(%q) = %v", sql, got)
		}
	}
}
