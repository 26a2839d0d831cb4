// Log in with a passkey: the browser signs a challenge of the server.
const button = document.getElementById("passkey");
const problem = document.getElementById("passkey-problem");

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

async function logIn() {
  problem.textContent = "";
  try {
    const begun = await (await post("/login/passkey/options", {})).json();
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options);
    const credential = await navigator.credentials.get({ publicKey });
    await post("/login/passkey", { challenge: begun.challenge, credential: credential.toJSON() });
    location.replace("/");
  } catch (error) {
    problem.textContent = error.name === "NotAllowedError" ? "No passkey was used." : error.message;
  }
}

if (window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON) {
  button.hidden = false;
  button.addEventListener("click", logIn);
}
