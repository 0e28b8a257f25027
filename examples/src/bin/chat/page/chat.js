// What others have written goes into the page as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_LINES = 500;

let me = { name: "", room: "" };
let socket = null; // null once we have left
let inside = false; // whether the server has let us in
let attempts = 0; // in vain, since it last did
let timer = 0;

function connect() {
  state("connecting");
  const mine = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/`);
  socket = mine;
  mine.onopen = () => send({ type: "join", ...me });
  mine.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (socket === mine) receive[message.type]?.(message);
  };
  mine.onclose = () => {
    if (socket !== mine) return;
    inside = false;
    here([]);
    // Twice as long each time, and not everybody at once.
    const most = Math.min(30_000, 500 * 2 ** attempts++);
    const delay = most / 2 + (Math.random() * most) / 2;
    state(`connection lost, next attempt in ${(delay / 1000).toFixed(1)} s`);
    timer = setTimeout(connect, delay);
  };
}

const receive = {
  joined(message) {
    inside = true;
    attempts = 0;
    state(`in ${me.room}`);
    line(`${message.name} has joined`, "notice");
    here(message.here);
  },
  left(message) {
    line(`${message.name} has left`, "notice");
    here(message.here);
  },
  said(message) {
    line(`${message.name}: ${message.text}`);
  },
  error(message) {
    inside ? line(message.text, "notice") : leave(message.text);
  },
};

function send(message) {
  socket.send(JSON.stringify(message));
}

function leave(why) {
  clearTimeout(timer);
  socket.close();
  socket = null;
  inside = false;
  turn("join");
  state(why);
}

function turn(view) {
  for (const id of ["join", "chat"]) $(id).hidden = id !== view;
}

function state(text) {
  $("state").textContent = text;
}

function here(names) {
  $("here").replaceChildren(...names.map((name) => item(name)));
}

function line(text, kind) {
  const log = $("log");
  log.append(item(text, kind));
  while (log.children.length > MAX_LINES) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

function item(text, kind = "") {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = kind;
  return item;
}

$("join").onsubmit = (event) => {
  event.preventDefault();
  me = { name: $("name").value, room: $("room").value };
  $("log").replaceChildren();
  here([]);
  turn("chat");
  $("text").focus();
  attempts = 0;
  connect();
};

$("say").onsubmit = (event) => {
  event.preventDefault();
  if (!inside) return;
  send({ type: "say", text: $("text").value });
  $("text").value = "";
};

$("leave").onclick = () => leave("");
