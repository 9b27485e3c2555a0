(() => {
	"use strict";
	const every = 2000, patience = 10000;
	const live = document.getElementById("live"), pause = document.getElementById("pause");
	let timer = 0, asking = null, paused = false, seen = new Date();

	// morph makes old like new, and touches nothing that is the same already, so that
	// what is selected, focused or scrolled stays so.
	function morph(old, now) {
		if (old.nodeName !== now.nodeName) {
			old.replaceWith(now.cloneNode(true));
			return;
		}
		if (old.nodeType !== Node.ELEMENT_NODE) {
			if (old.data !== now.data) old.data = now.data;
			return;
		}
		for (const a of [...old.attributes]) if (!now.hasAttribute(a.name)) old.removeAttribute(a.name);
		for (const a of now.attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
		const before = [...old.childNodes], after = [...now.childNodes];
		after.forEach((n, i) => i < before.length ? morph(before[i], n) : old.append(n.cloneNode(true)));
		before.slice(after.length).forEach((n) => n.remove());
	}

	function say(text, name) {
		live.textContent = text;
		live.className = name;
		document.body.classList.toggle("lost", name === "lost");
	}

	function later() {
		clearTimeout(timer);
		if (!paused && !document.hidden) timer = setTimeout(update, every);
	}

	async function update() {
		clearTimeout(timer);
		if (asking) asking.abort();
		const mine = asking = new AbortController();
		const late = setTimeout(() => mine.abort("late"), patience);
		try {
			const answer = await fetch(location.search || "?", {signal: mine.signal, cache: "no-store", headers: {Accept: "text/html"}});
			const text = await answer.text();
			const page = new DOMParser().parseFromString(text, "text/html"), main = page.getElementById("pgcmd");
			if (!answer.ok || !main) throw new Error("not the page"); // a proxy's, or a login
			morph(document.getElementById("pgcmd"), main);
			document.title = page.title;
			morph(document.querySelector("link[rel=icon]"), page.querySelector("link[rel=icon]"));
			seen = new Date();
			say(paused ? "paused" : "live", paused ? "" : "on");
		} catch {
			if (mine !== asking) return; // a newer one was asked
			say("no answer since " + seen.toLocaleTimeString() + ": what you see is old", "lost");
		} finally {
			clearTimeout(late);
			if (mine === asking) {
				asking = null;
				later();
			}
		}
	}

	// The heads of the columns are links that work without this.
	document.addEventListener("click", (e) => {
		const a = e.target.closest("a");
		if (!a || e.button || e.metaKey || e.ctrlKey || e.shiftKey || !/^\?(sort=\w+)?$/.test(a.getAttribute("href"))) return;
		e.preventDefault();
		history.pushState(null, "", a.search || location.pathname);
		update();
	});
	addEventListener("popstate", update);
	document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : paused || update());
	pause.addEventListener("click", () => {
		paused = !paused;
		pause.textContent = paused ? "Go on" : "Pause";
		if (!paused) return update();
		clearTimeout(timer);
		say("paused", "");
	});
	pause.hidden = false;
	say("live", "on");
	later();
})();
