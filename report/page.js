/* Whoever points at a part of a figure, or taps it, reads its numbers and its run. Without this script the browser's own
   tooltip says them. */
(() => {
  const box = document.createElement("div");
  box.className = "told";
  box.setAttribute("role", "status");
  box.hidden = true;
  document.body.append(box);
  const hide = () => { box.hidden = true; };
  const show = event => {
    const part = event.target.closest?.(".tells");
    if (!part) return hide();
    box.textContent = part.dataset.told;
    box.hidden = false;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = Math.min(Math.max(8, event.clientX - box.offsetWidth / 2), clientWidth - box.offsetWidth - 8);
    const above = event.clientY - box.offsetHeight - 14;
    const top = above > 8 ? above : Math.min(event.clientY + 20, clientHeight - box.offsetHeight - 8);
    box.style.translate = `${left}px ${top}px`;
  };
  for (const part of document.querySelectorAll(".tells")) {
    const title = part.querySelector("title");
    part.dataset.told = title.textContent;
    title.remove();
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", hide, { passive: true, capture: true });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
})();
