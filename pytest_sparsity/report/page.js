"use strict";
// Sorts, filters and opens the rows of the lists; without it everything is shown, in order.
document.documentElement.classList.add("js");
document.addEventListener("DOMContentLoaded", () => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  function open(button, wanted) {
    button.setAttribute("aria-expanded", String(wanted));
    document.getElementById(button.getAttribute("aria-controls")).classList.toggle("shown", wanted);
  }

  for (const section of all("section.listed")) {
    const table = section.querySelector("table.list");
    const items = all(":scope > tbody", table);
    const tools = section.querySelector(".tools");
    const text = tools.querySelector("input");
    const sort = tools.querySelector("select.sort");
    const where = tools.querySelector("select.where");
    const output = tools.querySelector("output");
    const chips = all(".chip", tools);
    tools.hidden = false;

    function filter() {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const kinds = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.value);
      let shown = 0;
      for (const item of items) {
        const found = words.length ? item.textContent.toLowerCase() : "";
        item.hidden = !(
          words.every((word) => found.includes(word)) &&
          (!kinds.length || kinds.includes(item.dataset.kind)) &&
          (!where || !where.value || where.value === item.dataset.where)
        );
        shown += !item.hidden;
      }
      output.textContent = `${shown} of ${items.length} shown`;
    }

    function order(key, down) {
      const value = (item) => item.dataset[key] ?? "";
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const numbers = [Number(x), Number(y)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what is not known comes last
        const less = numbers.some(Number.isNaN) ? x.localeCompare(y) : numbers[0] - numbers[1];
        return down ? -less : less;
      };
      items.sort((a, b) => compare(a, b) || a.dataset.order - b.dataset.order);
      table.append(...items);
      for (const head of all("th[data-key]", table)) {
        head.setAttribute("aria-sort", head.dataset.key !== key ? "none" : down ? "descending" : "ascending");
      }
      sort.value = `${key} ${down ? "down" : "up"}`;
    }

    text.addEventListener("input", filter);
    if (where) where.addEventListener("change", filter);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        filter();
      });
    }
    sort.addEventListener("change", () => {
      const [key, direction] = sort.value.split(" ");
      order(key, direction === "down");
    });
    for (const head of all("th[data-key]", table)) {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "ascending";
        order(head.dataset.key, up || (head.getAttribute("aria-sort") === "none" && "down" in head.dataset));
      });
    }
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button.open");
      if (button) open(button, button.getAttribute("aria-expanded") !== "true");
    });
    filter();
  }
});
