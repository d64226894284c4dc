// Filters of the ledger page. Without script the whole table is shown.
document.addEventListener("DOMContentLoaded", () => {
  const find = document.getElementById("kb-find");
  if (!find) return;
  const show = document.getElementById("kb-show");
  const verdict = document.getElementById("kb-verdict");
  const count = document.getElementById("kb-count");
  const groups = [...document.querySelectorAll(".kb-paper")].map((group) => ({
    group,
    head: group.querySelector(".kb-paper-head").textContent.toLowerCase(),
    rows: [...group.querySelectorAll("tr[data-verdict]")].map((row) => ({ row, text: row.textContent.toLowerCase() })),
  }));
  function apply() {
    const word = find.value.trim().toLowerCase();
    let papers = 0;
    let claims = 0;
    for (const { group, head, rows } of groups) {
      let visible = 0;
      for (const { row, text } of rows) {
        row.hidden = (verdict.value && row.dataset.verdict !== verdict.value) || !(head.includes(word) || text.includes(word));
        visible += row.hidden ? 0 : 1;
      }
      const wanted = !show.value || group.dataset.status === show.value;
      group.hidden = !wanted || !(visible || (!verdict.value && head.includes(word)));
      papers += group.hidden ? 0 : 1;
      claims += group.hidden ? 0 : visible;
    }
    count.textContent = `${papers} rows, ${claims} claims`;
  }
  for (const control of [find, show, verdict]) control.addEventListener("input", apply);
  apply();
});
