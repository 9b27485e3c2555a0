package reliability_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pgcmd/pgcmd"
)

// judge returns what is wrong with what the work returned, given what is there.
func (p *point) judge() error {
	there, err := p.applied()
	if err != nil {
		return err
	}
	return errors.Join(p.judgeEffect(there), p.judgeError(), p.judgeTime(), p.judgeAfterCommit())
}

// applied reports whether the work is wholly there, once. That it is there in part, or twice, is an error.
func (p *point) applied() (bool, error) {
	if len(p.parts) == 0 {
		return false, nil
	}
	if len(p.parts) != p.work.parts {
		return false, fmt.Errorf("applied in part or more than once: wanted the parts 1 to %d or none", p.work.parts)
	}
	for i, part := range p.parts {
		if part != int64(i+1) {
			return false, fmt.Errorf("applied in part or more than once: wanted the parts 1 to %d or none", p.work.parts)
		}
	}
	return true, nil
}

func (p *point) judgeEffect(there bool) error {
	if p.work.replay {
		if !there {
			return errors.New("what an earlier run applied is gone")
		}
		return nil
	}
	changes := p.work.parts > 0
	switch effect := pgcmd.EffectOf(p.out.Err); {
	case effect == pgcmd.Applied && changes && !there:
		return errors.New("said to be applied, and it is not there")
	case effect == pgcmd.NotApplied && there:
		return errors.New("said not to be applied, and it is there")
	case effect == pgcmd.Unknown:
		p.lab.tally.unknown.Add(1)
		if there {
			p.lab.tally.unknownApplied.Add(1)
		}
		return p.judgeUnknown()
	}
	return nil
}

// judgeUnknown asks whether there was reason not to know.
func (p *point) judgeUnknown() error {
	if p.wire.left(p.work.unit) {
		return nil
	}
	p.lab.tally.early.Add(1)
	if p.work.unit == byExecute {
		return nil // it was being prepared: too cautious, and not wrong
	}
	return errors.New("unknown, although nothing had left that could have applied it")
}

// judgeError asks for success where there is no reason to fail.
func (p *point) judgeError() error {
	err := p.out.Err
	if e, ok := errors.AsType[*pgcmd.Error](err); err != nil && (!ok || error(e) != err) {
		return errors.New("the error is not an *Error")
	}
	if p.work.fails != nil {
		switch {
		case err == nil:
			return errors.New("success, of what cannot succeed")
		case !p.harmed() && !p.work.fails(err), p.resolvable() && !p.work.fails(err) && pgcmd.EffectOf(err) != pgcmd.Unknown:
			return errors.New("the wrong error")
		}
		return nil
	}
	switch {
	case err == nil && p.out.Value != p.work.value:
		return fmt.Errorf("the wrong value: wanted %d", p.work.value)
	case err == nil && p.work.replay != p.out.Replayed:
		return fmt.Errorf("Replayed is %v", p.out.Replayed)
	case err == nil:
		return nil
	case p.work.after != nil && !p.retry && isOutdated(err):
		return nil
	case !p.harmed():
		return errors.New("an error, without a reason")
	case p.kind == giveUp && p.work.unit != byExecute && p.wire.left(byCommit) && p.work.after == nil: // else it was refused
		return errors.New("the caller gave up after COMMIT had left, and tore it")
	case p.resolvable() && (p.work.once || pgcmd.EffectOf(err) != pgcmd.Unknown):
		return errors.New("an error, although another attempt would have helped")
	}
	return nil
}

// isOutdated reports whether the server refused a statement since its schema has changed.
func isOutdated(err error) bool {
	e, ok := errors.AsType[*pgcmd.Error](err)
	return ok && e.Effect == pgcmd.NotApplied && slices.Contains([]string{"0A000", "22P02", "22P03", "26000", "42703", "42704", "42804", "42883", "42P18", "XX000"}, e.SQLState)
}

// harmed reports whether a fault struck that an attempt cannot survive.
func (p *point) harmed() bool { return p.fired && p.kind != delay }

// resolvable reports whether a further attempt can set right what the fault did.
func (p *point) resolvable() bool {
	return p.retry && p.kind != blackHole && p.kind != giveUp && !p.work.single
}

// judgeTime holds the run to its deadline.
func (p *point) judgeTime() error {
	bound := margin
	switch {
	case p.kind != blackHole:
		bound = patience / 2 // nothing keeps it, but a machine under load
	case p.wire.committed.Load():
		bound += p.hole + commitTime
	default:
		bound += p.hole + rollbackTime
	}
	if p.took > bound {
		return fmt.Errorf("it took more than %v", bound)
	}
	return nil
}

// judgeAfterCommit wants them to have run if and only if the run knows of its commit.
func (p *point) judgeAfterCommit() error {
	var want int32
	if p.out.Err == nil && !p.out.Replayed {
		want = p.work.commits
	}
	if got := p.committed.Load(); got != want {
		return fmt.Errorf("%d functions ran after the commit: wanted %d", got, want)
	}
	return nil
}
