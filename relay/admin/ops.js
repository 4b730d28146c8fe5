// Reloads the page while it is visible and reloading is switched on; open details and the focus are kept.
const refresh = document.getElementById("refresh");
refresh.checked = localStorage.refresh !== "off";
refresh.onchange = () => { localStorage.refresh = refresh.checked ? "on" : "off"; };
refresh.closest("label").hidden = false;

async function again() {
  if (!refresh.checked || document.hidden) return;
  const main = document.querySelector("main");
  if (main.contains(document.activeElement) || !getSelection().isCollapsed) return; // the reader uses an element or has selected text
  try {
    const answer = await fetch("ops", { headers: { Accept: "text/html" } });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    for (const { id } of main.querySelectorAll("details[open]")) next.querySelector(`#${id}`)?.setAttribute("open", "");
    main.replaceWith(document.adoptNode(next));
    document.getElementById("age").textContent = "";
  } catch {
    document.getElementById("age").textContent = "The relay does not answer: what you see is old.";
  }
}
setInterval(again, 15_000);
