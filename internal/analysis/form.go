package analysis

import (
	"strings"
	"sync"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// needed are the fields without which a node would mean something else, by the node's name.
var needed = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	for name, fields := range map[string]string{
		"QUERY": "commandType resultRelation hasTargetSRFs hasAggs cteList rtable jointree targetList onConflict returningList groupClause " +
			"groupingSets havingQual windowClause limitOffset limitCount rowMarks setOperations",
		"FROMEXPR":          "fromlist quals",
		"JOINEXPR":          "jointype larg rarg quals",
		"RANGETBLREF":       "rtindex",
		"RANGETBLENTRY":     "rtekind",
		"TARGETENTRY":       "expr resno resjunk ressortgroupref",
		"VAR":               "varno varattno varlevelsup vartype",
		"CONST":             "constisnull consttype constvalue",
		"PARAM":             "paramkind paramid",
		"AGGREF":            "aggfnoid args aggfilter agglevelsup aggkind",
		"WINDOWFUNC":        "winfnoid args aggfilter winref",
		"WINDOWCLAUSE":      "frameOptions winref",
		"ONCONFLICTEXPR":    "action onConflictSet exclRelIndex",
		"FUNCEXPR":          "funcid args funcretset",
		"OPEXPR":            "opno args opretset",
		"DISTINCTEXPR":      "args",
		"NULLIFEXPR":        "args",
		"SCALARARRAYOPEXPR": "opno useOr args",
		"BOOLEXPR":          "boolop args",
		"SUBLINK":           "subLinkType testexpr subselect",
		"CASEEXPR":          "arg args defresult",
		"CASEWHEN":          "expr result",
		"COALESCEEXPR":      "args",
		"MINMAXEXPR":        "args",
		"NULLTEST":          "arg nulltesttype argisrow",
		"BOOLEANTEST":       "arg booltesttype",
		"SETOPERATIONSTMT":  "op larg rarg",
		"GROUPINGSET":       "kind content",
		"SORTGROUPCLAUSE":   "tleSortGroupRef",
		"COMMONTABLEEXPR":   "ctename ctequery cterecursive",
		"RANGETBLFUNCTION":  "funcexpr funccolcount",
		"SUBSCRIPTINGREF":   "refexpr refassgnexpr refupperindexpr reflowerindexpr",
	} {
		all[name] = strings.Fields(fields)
	}
	return all
})

// neededOf are those of an entry of the range table, by its kind.
var neededOf = map[int][]string{
	rteRelation: {"relid", "inh"}, rteSubquery: {"subquery"}, rteJoin: {"joinaliasvars"}, rteFunction: {"functions", "funcordinality"},
	rteValues: {"values_lists"}, rteCTE: {"ctename", "ctelevelsup"}, rteGroup: {"groupexprs"},
}

// places are the fields of QUERY whose nodes must be known, since they say which rows there are.
var places = map[string]string{"cteList": "COMMONTABLEEXPR", "rtable": "RANGETBLENTRY", "jointree": "FROMEXPR", "targetList": "TARGETENTRY",
	"onConflict": "ONCONFLICTEXPR", "returningList": "TARGETENTRY", "groupClause": "SORTGROUPCLAUSE", "groupingSets": "GROUPINGSET",
	"windowClause": "WINDOWCLAUSE", "setOperations": "SETOPERATIONSTMT"}

// isKnown reports whether a tree has the form that the analysis is written for. A node in an expression may be another: it
// can be anything.
func isKnown(tree *pgtree.Node) bool {
	known, fields := true, needed()
	tree.Walk(func(n *pgtree.Node) bool {
		has := func(fields []string) {
			for _, field := range fields {
				known = known && n.Has(field)
			}
		}
		has(fields[n.Tag])
		switch n.Tag {
		case "RANGETBLENTRY":
			has(neededOf[num(n, "rtekind")])
		case "QUERY":
			n.Children(func(field string, child *pgtree.Node) {
				if want := places[field]; want != "" && !child.Is(want) {
					known = false
				}
			})
		case "FROMEXPR", "JOINEXPR":
			n.Children(func(field string, child *pgtree.Node) {
				if (field == "fromlist" || field == "larg" || field == "rarg") && !child.Is("RANGETBLREF", "JOINEXPR", "FROMEXPR") {
					known = false
				}
			})
		case "SETOPERATIONSTMT":
			n.Children(func(field string, child *pgtree.Node) {
				if (field == "larg" || field == "rarg") && !child.Is("RANGETBLREF", "SETOPERATIONSTMT") {
					known = false
				}
			})
		case "CASEEXPR":
			n.Children(func(field string, child *pgtree.Node) {
				if field == "args" && !child.Is("CASEWHEN") {
					known = false
				}
			})
		}
		return known
	})
	return known
}
