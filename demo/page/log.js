// The list of frames: one line each, the latest first; a click shows the whole frame.

const LINES = 50;

export function note(list, frame, late) {
  const line = document.createElement("li");
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const part = (parent, tag, text) => parent.append(Object.assign(document.createElement(tag), { textContent: text }));
  part(summary, "time", new Date().toLocaleTimeString([], { hour12: false }));
  part(summary, "b", frame.type.replace("after_hours:", ""));
  part(summary, "span", [frame.start ?? frame.reason, late].filter(Boolean).join(", "));
  details.append(summary);
  part(details, "pre", JSON.stringify(frame, null, 1));
  line.append(details);
  list.prepend(line);
  while (list.children.length > LINES) list.lastChild.remove();
}
