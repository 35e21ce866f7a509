/*
 * Elements from data: the only place where the page makes markup.
 *
 * Text always becomes text nodes, so that nothing said in a recording can turn into markup. There is
 * no way to set `innerHTML` or an inline style from here, and the Content-Security-Policy forbids both.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Paths of the icons, drawn with a stroke of 24 × 24. */
const ICONS = {
  plus: ["M12 5v14", "M5 12h14"],
  play: ["M8 5.5v13l10.5-6.5z"],
  pause: ["M8.5 5.5v13", "M15.5 5.5v13"],
  back: ["M4 12a8 8 0 1 0 2.6-5.9", "M4 4v4.5h4.5"],
  forward: ["M20 12a8 8 0 1 1-2.6-5.9", "M20 4v4.5h-4.5"],
  upload: ["M12 16V4.5", "M7 9l5-5 5 5", "M4.5 16v2.5a2 2 0 0 0 2 2h11a2 2 0 0 0 2-2V16"],
  download: ["M12 4v11.5", "M7 11l5 5 5-5", "M4.5 20h15"],
  link: ["M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1", "M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1"],
  search: ["M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z", "M15.5 15.5L20 20"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  alert: ["M12 8v5", "M12 16.5v.1", "M12 3.5l9 16H3z"],
  trash: ["M4.5 7h15", "M9.5 7V4.5h5V7", "M6.5 7l1 13h9l1-13", "M10 11v5.5", "M14 11v5.5"],
  more: ["M5.5 12v.1", "M12 12v.1", "M18.5 12v.1"],
  gear: [
    "M4 7h9",
    "M17 7h3",
    "M4 17h3",
    "M11 17h9",
    "M15 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
    "M9 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  ],
  keyboard: ["M3.5 6.5h17v11h-17z", "M7 10v.1", "M10.3 10v.1", "M13.7 10v.1", "M17 10v.1", "M8 14h8"],
  left: ["M14.5 5.5L8 12l6.5 6.5"],
  up: ["M5.5 14.5L12 8l6.5 6.5"],
  down: ["M5.5 9.5L12 16l6.5-6.5"],
  copy: ["M8.5 8.5h11v11h-11z", "M15.5 8.5v-4h-11v11h4"],
  pencil: ["M4.5 19.5l1-4.5L16 4.5l3.5 3.5L9 18.5z", "M13.5 7l3.5 3.5"],
  retry: ["M20 12a8 8 0 1 1-2.6-5.9", "M20 4v4.5h-4.5"],
  clock: ["M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17z", "M12 7.5V12l3 2"],
  people: [
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
    "M2.5 19.5a6.5 6.5 0 0 1 13 0",
    "M16 4.5a3.5 3.5 0 0 1 0 6.5",
    "M18 14a6.5 6.5 0 0 1 3.5 5.5",
  ],
  wave: ["M4 10.5v3", "M8 7v10", "M12 4v16", "M16 8v8", "M20 10.5v3"],
  file: ["M6 3.5h8l4.5 4.5v12.5H6z", "M13.5 3.5V8.5h5"],
  follow: ["M12 4v13", "M7 12l5 5 5-5", "M6 21h12"],
  volume: ["M4.5 9.5v5H8l4.5 4v-13L8 9.5z", "M16 9a4.2 4.2 0 0 1 0 6", "M18.5 6.5a8 8 0 0 1 0 11"],
  muted: ["M4.5 9.5v5H8l4.5 4v-13L8 9.5z", "M16.5 9.5l5 5", "M21.5 9.5l-5 5"],
};

/**
 * An element of `tag` with attributes and children. A property `on` holds listeners, `data` becomes
 * `data-*`, `true` an empty attribute; `false`, `null` and `undefined` are left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (name === "value") {
      element.value = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

/** Adds children: nodes, text, lists of them; nothing for `null` and `false`. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces what is in `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** An icon that says nothing to a screen reader: its button has the name. */
export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `${className} icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name] ?? []) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** A button that shows only an icon; `label` is its name and its tooltip. */
export function iconButton(name, label, onClick, properties = {}) {
  return h(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": label,
      title: label,
      on: { click: onClick },
      ...properties,
    },
    icon(name),
  );
}

/** A short message at the foot of the page, gone after a while. */
export function toast(message, kind = "info") {
  const element = h("div", { class: `toast toast-${kind}` }, message);
  document.getElementById("toasts").append(element);
  // Reading takes about 60 ms a character, and nobody reads in less than four seconds.
  setTimeout(() => element.remove(), Math.max(4000, message.length * 90));
}

/** Says `message` to screen readers only. */
export function announce(message) {
  document.getElementById("announcer").textContent = message;
}

/**
 * A modal dialog with a title, closed by Escape, its close button, or `close`. The answer has `close`
 * and a promise `closed` of the value it was closed with.
 */
export function openDialog({ title, closeLabel, className = "" }, build) {
  const heading = h("h2", { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
  const dialog = h("dialog", { class: `dialog ${className}`, "aria-labelledby": heading.id });
  let answer;
  const close = (value) => {
    answer = value;
    dialog.close();
  };
  append(dialog, [
    h(
      "div",
      { class: "dialog-head" },
      heading,
      iconButton("close", closeLabel, () => close()),
    ),
    h("div", { class: "dialog-body" }, build(close)),
  ]);
  document.body.append(dialog);
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close();
  });
  dialog.showModal();
  return { dialog, close, closed };
}

/** A button with a menu under it. `items` are `{label, icon, action, danger}`; made at each opening. */
export function menuButton(button, items) {
  const wrapper = h("div", { class: "menu-anchor" }, button);
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  let menu = null;
  const close = (toButton) => {
    menu?.remove();
    menu = null;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (toButton) button.focus();
  };
  const outside = (event) => {
    if (!wrapper.contains(event.target)) close(false);
  };
  const entry = (item) =>
    h(
      "button",
      {
        type: "button",
        role: "menuitem",
        tabindex: "-1",
        class: item.danger ? "menu-item danger" : "menu-item",
        data: item.key ? { key: item.key } : {},
        on: {
          click: () => {
            close(true);
            item.action();
          },
        },
      },
      item.icon ? icon(item.icon) : null,
      h("span", {}, item.label),
      item.hint ? h("span", { class: "hint" }, item.hint) : null,
    );
  const open = () => {
    menu = h(
      "div",
      { class: "menu", role: "menu", on: { keydown: (event) => moveInMenu(event, menu, close) } },
      items().map(entry),
    );
    wrapper.append(menu);
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    menu.querySelector("button")?.focus();
  };
  button.addEventListener("click", () => (menu ? close(true) : open()));
  return wrapper;
}

/** Arrows, Home, End, Escape and Tab in an open menu. */
function moveInMenu(event, menu, close) {
  const entries = [...menu.querySelectorAll("[role=menuitem]")];
  const at = entries.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1 + entries.length, Home: 0, End: entries.length - 1 }[event.key];
  if (to !== undefined) {
    entries[to % entries.length]?.focus();
  } else if (event.key === "Escape" || event.key === "Tab") {
    close(event.key === "Escape");
    if (event.key === "Tab") return;
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}
