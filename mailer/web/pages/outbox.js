"use strict";

// The frame gets the height of the message, so that the page scrolls as one.
const frame = document.getElementById("mail");
const fit = () => {
  const mail = frame.contentDocument && frame.contentDocument.documentElement;
  if (!mail) return;
  const border = frame.offsetHeight - frame.clientHeight;
  frame.style.height = `${Math.ceil(mail.getBoundingClientRect().height) + border}px`;
};
if (frame) {
  frame.addEventListener("load", fit);
  addEventListener("resize", fit);
  if (frame.contentDocument && frame.contentDocument.readyState === "complete") fit();
}
