"""The page's script: filters, outline switches and sorting. Without it everything is shown, unsorted."""

SCRIPT = """
"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const one = (id) => document.getElementById(id);
  document.documentElement.classList.add("scripts");

  const form = one("filters");
  if (form) {
    const status = one("filter-status"), label = one("filter-class"), name = one("filter-name");
    const chips = all(".chip", form), only = all("[data-only]");
    const figures = all("#gallery figure"), groups = all("#gallery .group"), lines = all("#worst tr[data-name]");
    const chosen = new Set();

    const apply = () => {
      const wanted = name.value.trim().toLowerCase();
      let shown = 0;
      for (const figure of figures) {
        const fits = (!chosen.size || chosen.has(figure.dataset.kind))
          && (!label.value || figure.dataset.classes.split(" ").includes(label.value))
          && (!wanted || figure.dataset.name.includes(wanted));
        figure.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      for (const group of groups) group.hidden = !all("figure", group).some((figure) => !figure.hidden);
      for (const line of lines) line.hidden = wanted !== "" && !line.dataset.name.includes(wanted);
      for (const chip of chips) chip.setAttribute("aria-pressed", String(chosen.has(chip.dataset.kind)));
      for (const button of only) {
        button.setAttribute("aria-pressed", String(chosen.size === 1 && chosen.has(button.dataset.only)));
      }
      const parts = [];
      if (chosen.size) parts.push("kind " + Array.from(chosen).join(" or "));
      if (label.value) parts.push("class " + label.selectedOptions[0].textContent);
      if (wanted) parts.push("name contains \\u201c" + name.value.trim() + "\\u201d");
      const filter = parts.length ? " (" + parts.join(", ") + ")" : "";
      status.textContent = (shown === figures.length ? "All " + shown + " pictures are shown"
        : shown ? shown + " of " + figures.length + " pictures are shown"
        : "None of the " + figures.length + " pictures fits") + filter + ".";
    };

    for (const chip of chips) {
      chip.addEventListener("click", () => {
        if (!chosen.delete(chip.dataset.kind)) chosen.add(chip.dataset.kind);
        apply();
      });
    }
    for (const button of only) {
      button.addEventListener("click", () => {
        const alone = chosen.size === 1 && chosen.has(button.dataset.only);
        chosen.clear();
        if (!alone) chosen.add(button.dataset.only);
        apply();
      });
    }
    label.addEventListener("change", apply);
    name.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    one("filter-reset").addEventListener("click", () => {
      chosen.clear();
      form.reset();
      apply();
      switches();
    });
    const switches = () => {
      const main = document.querySelector("main");
      for (const side of ["truth", "prediction", "near"]) {
        main.classList.toggle("no-" + side, !one("show-" + side).checked);
      }
      one("gallery").classList.toggle("enlarged", one("show-large").checked);
    };
    form.addEventListener("change", switches);
    apply();
    switches();
  }

  const links = new Map(all("nav.contents a").map((link) => [link.hash.slice(1), link]));
  if ("IntersectionObserver" in window) {
    const inside = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) inside[entry.isIntersecting ? "add" : "delete"](entry.target.id);
      const first = Array.from(links.keys()).find((id) => inside.has(id));
      for (const [id, link] of links) {
        if (id === first) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-15% 0px -65% 0px" });
    for (const section of all("main > section")) if (links.has(section.id)) watch.observe(section);
  }

  // A folded part would be missing on paper.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of opened) fold.open = false; });

  const key = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
    const number = Number(given);
    return given === "" || given === "\\u2013" ? null : Number.isFinite(number) ? number : given.toLowerCase();
  };
  const compare = (a, b, way) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return way * (a - b);
    return way * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  for (const table of all("table[data-sortable]")) {
    const heads = all("thead th", table), live = document.createElement("p");
    live.className = "live dim"; live.setAttribute("role", "status"); live.setAttribute("aria-live", "polite");
    table.closest(".scroll").after(live);
    heads.forEach((head, column) => {
      const button = head.querySelector(".sort");
      if (!button) return;
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("number");
        const now = head.getAttribute("aria-sort");
        const next = now === "none" ? (numeric ? "descending" : "ascending")
          : now === "descending" ? "ascending" : "descending";
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", next);
        const way = next === "ascending" ? 1 : -1, body = table.tBodies[0];
        Array.from(body.rows).map((row) => [key(row, column), row])
          .sort((a, b) => compare(a[0], b[0], way)).forEach((pair) => body.append(pair[1]));
        live.textContent = "Sorted by " + button.textContent.trim() + ", " + next + ".";
      });
    });
  }
})();
"""
