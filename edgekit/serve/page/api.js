// Requests to the server that gave this page, and to nothing else.

let token = null; // in memory only: it is gone with the page
let asking = null;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(path, { method = "GET", body = null, type = null } = {}) {
  const headers = {};
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (type) headers["Content-Type"] = type;
  const response = await fetch(path, { method, body, headers, cache: "no-store" });
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = null; // not every answer is JSON
  }
  if (!response.ok) {
    throw new ApiError(response.status, answer?.error ?? `${response.status} ${response.statusText}`);
  }
  return { answer, text };
}

// As call(), and where the server wants a token, asks for one and tries again.
export async function callAsUser(path, options) {
  try {
    return await call(path, options);
  } catch (error) {
    if (error.status !== 401 && error.status !== 403) throw error;
    if (!(await askToken(error.message))) throw error;
    return await call(path, options);
  }
}

// Whether the user gave a token. One dialog at a time.
export function askToken(why = "") {
  asking ??= show(why).finally(() => (asking = null));
  return asking;
}

function show(why) {
  const dialog = document.getElementById("token-dialog");
  const field = document.getElementById("token");
  const told = "It is sent with every request and forgotten when this page closes.";
  document.getElementById("token-why").textContent = why ? `${why} ${told}` : told;
  field.value = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok";
      if (given) token = field.value || null;
      field.value = "";
      resolve(given);
    }, { once: true });
    dialog.returnValue = "cancel";
    dialog.showModal();
  });
}
