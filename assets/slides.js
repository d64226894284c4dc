// Moves through the slides: arrow keys, space, Home, End, swipes; n shows the notes. The address keeps the place.
const slides = [...document.querySelectorAll(".slide")];
const place = document.getElementById("place");
let now = 0;
function go(to) {
  now = Math.max(0, Math.min(slides.length - 1, to));
  slides.forEach((slide, i) => slide.classList.toggle("now", i === now));
  place.textContent = `${now + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${now + 1}`);
}
document.documentElement.classList.add("js");
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
  if (event.key in moves) go(now + moves[event.key]);
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(slides.length - 1);
  else if (event.key === "n") document.documentElement.classList.toggle("notes-on");
  else return;
  event.preventDefault();
});
let start = null;
document.addEventListener("touchstart", (event) => { start = event.target.tagName === "INPUT" ? null : event.touches[0].clientX; });
document.addEventListener("touchend", (event) => {
  const moved = start === null ? 0 : event.changedTouches[0].clientX - start;
  if (Math.abs(moved) > 60) go(now + (moved < 0 ? 1 : -1));
});
go((parseInt(location.hash.slice(1), 10) || 1) - 1);
