"use strict";

// The frame gets the height of the mail, so that the page scrolls as one and stays where it was.
const fit = (frame) => {
  const mail = frame.contentDocument && frame.contentDocument.documentElement;
  if (mail) frame.style.height = `${Math.ceil(mail.getBoundingClientRect().height)}px`;
};

const whenShown = (frame, then) => {
  frame.addEventListener("load", () => { fit(frame); then(); }, { once: true });
};

const live = document.getElementById("live");
const say = (text, on) => {
  live.textContent = text;
  live.classList.toggle("on", on);
};

// The new mail is put in when it is ready: nothing flickers, and the page keeps its place.
const refresh = async () => {
  const answer = await fetch(location.href);
  if (!answer.ok) return say("The preview failed: see the terminal", false);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.title = fresh.title;
  document.body.dataset.state = fresh.body.dataset.state;
  document.querySelector(".issue").replaceWith(fresh.querySelector(".issue"));
  if (!document.activeElement || !document.activeElement.closest("aside")) {
    document.querySelector("aside").replaceWith(fresh.querySelector("aside"));
  }
  const shown = document.querySelector(".stage"), next = fresh.querySelector(".stage");
  const frame = shown.querySelector("iframe"), coming = next.querySelector("iframe");
  if (!frame || !coming) {
    shown.replaceWith(next);
    const late = next.querySelector("iframe");
    if (late) whenShown(late, () => {});
    return;
  }
  coming.style.cssText = "position: absolute; visibility: hidden";
  whenShown(coming, () => {
    frame.remove();
    coming.style.position = coming.style.visibility = "";
  });
  shown.append(coming);
};

const frame = document.getElementById("mail");
if (frame) {
  whenShown(frame, () => {});
  if (frame.contentDocument && frame.contentDocument.readyState === "complete") fit(frame);
}

const events = new EventSource("/events");
events.addEventListener("message", (event) => {
  say("Follows your saves", true);
  if (event.data !== document.body.dataset.state) {
    refresh().catch(() => say("The preview has stopped", false));
  }
});
events.addEventListener("error", () => say("The preview has stopped", false));
