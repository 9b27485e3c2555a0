package pgcmdweb

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd"
)

// view is what the page shows, and its JSON.
type view struct {
	At       time.Time          `json:"at"`
	Since    time.Time          `json:"since"`    // when the pool was made
	Window   float64            `json:"window_s"` // what the rates, errors and times of now cover
	Status   pgcmd.HealthStatus `json:"status"`   // empty: not known yet
	Ping     float64            `json:"ping_ms"`
	Wrong    []wrong            `json:"wrong"` // the worst first
	Rate     float64            `json:"rate"`  // runs a second, of all commands
	Errors   int64              `json:"errors"`
	Serious  int64              `json:"serious_errors"` // those that are not the callers' own
	Pool     poolView           `json:"pool"`
	Replicas []replicaView      `json:"replicas"`
	Commands []commandView      `json:"commands"`
	Failures []runView          `json:"failures"` // the latest first
	Slowest  []runView          `json:"slowest"`  // the slowest first

	All   []point      `json:"-"` // of all commands
	InUse []poolPoint  `json:"-"`
	Sort  string       `json:"-"`
	total commandTotal // of what is not in the JSON
}

type commandTotal struct{ retries, inFlight int64 }

type poolView struct {
	InUse       int32   `json:"in_use"`
	Idle        int32   `json:"idle"`
	Making      int32   `json:"making"`
	Max         int32   `json:"max"`
	Waits       int64   `json:"waits"`     // within the window
	WaitedMS    float64 `json:"waited_ms"` // by all together, within the window
	Resets      int64   `json:"resets"`
	RetryTokens *int    `json:"retry_tokens"` // null: no limit
}

type replicaView struct {
	Fit    bool    `json:"fit"`
	Reason string  `json:"reason,omitempty"`
	LagMS  float64 `json:"lag_ms"`
	InUse  int32   `json:"in_use"`
	Idle   int32   `json:"idle"`
	Max    int32   `json:"max"`
	Resets int64   `json:"resets"`
}

type commandView struct {
	Name     string               `json:"name"`
	Level    level                `json:"level,omitempty"` // of the worst that is wrong with it
	Rate     float64              `json:"rate"`            // runs a second
	Runs     int64                `json:"runs"`            // all but the totals are within the window
	Errors   map[pgcmd.Code]int64 `json:"errors"`
	Retries  int64                `json:"retries"`
	InFlight int64                `json:"in_flight"`
	P50      float32              `json:"p50_ms"`
	P95      float32              `json:"p95_ms"`
	P99      float32              `json:"p99_ms"`

	RunsTotal    int64                `json:"runs_total"`
	RowsTotal    int64                `json:"rows_total"`
	RetriesTotal int64                `json:"retries_total"`
	ErrorsTotal  map[pgcmd.Code]int64 `json:"errors_total"`

	Points []point `json:"history"` // of the last ten minutes, every five seconds, the oldest first
}

// MarshalJSON renders a point as [runs/s, errors/s, p50, p95, p99], the times in
// milliseconds.
func (p point) MarshalJSON() ([]byte, error) {
	return appendNumbers(nil, p.rate, p.errors, p.p50, p.p95, p.p99), nil
}

// ErrorCodes returns the codes of a command's errors, the worst first.
func (c commandView) ErrorCodes() []errorCount {
	var list []errorCount
	for code, n := range c.Errors {
		list = append(list, errorCount{code, n})
	}
	slices.SortFunc(list, func(a, b errorCount) int {
		return cmp.Or(severity(b.Code).rank()-severity(a.Code).rank(), cmp.Compare(b.N, a.N), cmp.Compare(a.Code, b.Code))
	})
	return list
}

type errorCount struct {
	Code pgcmd.Code
	N    int64
}

type runView struct {
	Command   string     `json:"command"`
	At        time.Time  `json:"at"`
	ElapsedMS float64    `json:"elapsed_ms"`
	Attempts  int        `json:"attempts"`
	Code      pgcmd.Code `json:"code,omitempty"`
	Effect    string     `json:"effect,omitempty"`
	SQLState  string     `json:"sqlstate,omitempty"`
	Message   string     `json:"message,omitempty"`

	Alike int `json:"-"` // how many like it the page leaves out
}

func runViews(runs []pgcmd.Run) []runView {
	list := make([]runView, 0, len(runs))
	for _, r := range runs {
		v := runView{Command: r.Command, At: r.At.UTC(), ElapsedMS: milliseconds(r.Elapsed), Attempts: r.Attempts,
			Code: r.Code, SQLState: r.SQLState, Message: beginning(r.Message)}
		if r.Code != "" {
			v.Effect = r.Effect.String()
		}
		list = append(list, v)
	}
	return list
}

// maxMessage bounds the text of an error, in bytes: a program's own may hold what a caller sent.
const maxMessage = 1000

// beginning returns the message, or as much of it as is shown.
func beginning(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

// view compares what is with the readings of the last minute.
func (h *history) view(health pgcmd.Health) *view {
	now := reading{time.Now(), h.read()}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.recent[0]
	seconds := max(now.at.Sub(before.at).Seconds(), 1) // the first second of all would exaggerate
	v := &view{At: now.at.UTC(), Since: now.Since.UTC(), Window: seconds, Status: health.Status, Ping: milliseconds(health.Latency),
		Wrong: []wrong{}, Replicas: []replicaView{}, Commands: []commandView{},
		Failures: runViews(h.failures(now)), Slowest: runViews(now.Slowest), InUse: h.poolPoints()}
	v.Pool = poolView{InUse: now.Pool.Acquired, Idle: now.Pool.Idle, Making: now.Pool.Constructing, Max: now.Pool.Max,
		Waits: now.Pool.EmptyAcquires - before.Pool.EmptyAcquires, WaitedMS: milliseconds(now.Pool.Waited - before.Pool.Waited), Resets: now.Pool.Resets}
	if now.Pool.RetryTokens >= 0 {
		v.Pool.RetryTokens = &now.Pool.RetryTokens
	}
	for _, r := range now.Replicas {
		v.Replicas = append(v.Replicas, replicaView{r.Fit, r.Reason, milliseconds(r.Lag), r.Pool.Acquired, r.Pool.Idle, r.Pool.Max, r.Pool.Resets})
	}
	earlier := before.byName()
	v.All = make([]point, min(h.taken, samples))
	for _, c := range now.Commands {
		d := since(c, earlier[c.Name])
		cv := commandView{Name: c.Name, Rate: float64(d.Runs) / seconds, Runs: d.Runs, Errors: d.Errors, Retries: d.Retries, InFlight: c.InFlight,
			P50: quantile(d.Latency, 0.50), P95: quantile(d.Latency, 0.95), P99: quantile(d.Latency, 0.99),
			RunsTotal: c.Runs, RowsTotal: c.Rows, RetriesTotal: c.Retries, ErrorsTotal: c.Errors, Points: h.points(c.Name)}
		v.Rate += cv.Rate
		v.Errors += total(d.Errors)
		v.Serious += serious(d.Errors)
		v.total.retries += d.Retries
		v.total.inFlight += c.InFlight
		missing := len(v.All) - len(cv.Points)
		for i, p := range cv.Points {
			v.All[missing+i].rate += p.rate
			v.All[missing+i].errors += p.errors
			v.All[missing+i].serious += p.serious
		}
		v.Commands = append(v.Commands, cv)
	}
	v.judge(health, now, before)
	return v
}

// maxShown bounds the page; the JSON has all.
const maxShown = 200

// Shown returns the commands of the page.
func (v *view) Shown() []commandView { return v.Commands[:min(len(v.Commands), maxShown)] }

// More returns how many commands the page leaves out.
func (v *view) More() int { return len(v.Commands) - len(v.Shown()) }

func (v *view) CallersOwn() int64 { return v.Errors - v.Serious }
func (v *view) Retries() int64    { return v.total.retries }
func (v *view) InFlight() int64   { return v.total.inFlight }

// Level is that of the worst that is wrong.
func (v *view) Level() level {
	if len(v.Wrong) == 0 {
		return fine
	}
	return v.Wrong[0].Level
}

// An order is one that the commands can be in.
type order struct {
	Key, Title string
	compare    func(a, b commandView) int
}

var orders = []order{
	{"name", "Command", func(a, b commandView) int { return 0 }},
	{"rate", "Runs", func(a, b commandView) int { return cmp.Compare(b.Rate, a.Rate) }},
	{"errors", "Errors", func(a, b commandView) int { return cmp.Compare(total(b.Errors), total(a.Errors)) }},
	{"p50", "p50", func(a, b commandView) int { return cmp.Compare(b.P50, a.P50) }},
	{"p95", "p95", func(a, b commandView) int { return cmp.Compare(b.P95, a.P95) }},
	{"p99", "p99", func(a, b commandView) int { return cmp.Compare(b.P99, a.P99) }},
	{"retries", "Retries", func(a, b commandView) int { return cmp.Compare(b.Retries, a.Retries) }},
	{"in_flight", "In flight", func(a, b commandView) int { return cmp.Compare(b.InFlight, a.InFlight) }},
	{"worst", "Worst first", func(a, b commandView) int {
		return cmp.Or(b.Level.rank()-a.Level.rank(), cmp.Compare(b.badness(), a.badness()), cmp.Compare(b.P99, a.P99), cmp.Compare(b.RunsTotal, a.RunsTotal))
	}},
}

// badness counts the errors, those of the callers themselves for little.
func (c commandView) badness() (n float64) {
	for code, m := range c.Errors {
		n += float64(m) * []float64{0.01, 1, 10}[severity(code).rank()]
	}
	return n
}

// sort brings the commands in an order, the worst first if there is none of that name.
func (v *view) sort(key string) {
	chosen := orders[len(orders)-1]
	for _, o := range orders {
		if o.Key == key {
			chosen = o
		}
	}
	v.Sort = chosen.Key
	slices.SortStableFunc(v.Commands, func(a, b commandView) int { return cmp.Or(chosen.compare(a, b), cmp.Compare(a.Name, b.Name)) })
}

// Orders is for the heads of the columns.
func (v *view) Orders() map[string]order {
	m := map[string]order{}
	for _, o := range orders {
		m[o.Key] = o
	}
	return m
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// head is what a column's head is made of.
type head struct {
	Order       order
	Sort, Class string
}

func (v *view) Head(key, class string) head { return head{v.Orders()[key], v.Sort, class} }

// SortKeys are the orders that a narrow screen, which has no heads, offers.
func (v *view) SortKeys() []string {
	return []string{"worst", "rate", "errors", "p99", "retries", "in_flight", "name"}
}

type runList struct {
	At   time.Time
	Runs []runView
}

// Runs returns runs for the page, one of those that are alike, which is the first.
func (v *view) Runs(runs []runView) runList {
	list := runList{At: v.At}
	for _, r := range runs {
		i := slices.IndexFunc(list.Runs, func(s runView) bool {
			return s.Command == r.Command && s.Code == r.Code && s.Effect == r.Effect && s.SQLState == r.SQLState && s.Message == r.Message
		})
		if i < 0 {
			list.Runs = append(list.Runs, r)
		} else {
			list.Runs[i].Alike++
		}
	}
	return list
}

// Failed returns the failures for the page: those that matter first.
func (v *view) Failed() runList {
	list := v.Runs(v.Failures)
	slices.SortStableFunc(list.Runs, func(a, b runView) int { return severity(b.Code).rank() - severity(a.Code).rank() })
	return list
}

// Span is how many samples the charts are wide: what there is, but two minutes at
// least, so that the first samples do not look like all there ever was.
func (v *view) Span() int { return max(len(v.All), 24) }

// Minutes is the span in words.
func (v *view) Minutes() string {
	return shownTime(float64(v.Span()) * sampleEvery.Seconds() * 1000)
}
