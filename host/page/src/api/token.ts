// Reading access tokens. The server checks them; the page only wants to know for whom, and until when.

export interface Claims {
  id: string;
  name: string;
  isAdmin: boolean;
  collections: readonly string[];
  /** Milliseconds since 1970. */
  expires: number;
}

/** What a token says; null: it isn't one. */
export const claims = (token: string): Claims | null => {
  const middle = token.split(".")[1];
  if (!middle) return null;
  try {
    const bytes = Uint8Array.from(atob(middle.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const said = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (typeof said["id"] !== "string" || typeof said["exp"] !== "number") return null;
    return {
      id: said["id"],
      name: typeof said["name"] === "string" && said["name"] !== "" ? said["name"] : said["id"],
      isAdmin: said["isAdmin"] === true,
      collections: Array.isArray(said["collections"]) ? said["collections"].map(String) : [],
      expires: said["exp"] * 1000,
    };
  } catch {
    return null;
  }
};

/** The value of a cookie in `document.cookie`; empty: there is none. */
export const cookie = (cookies: string, name: string): string => {
  const found = cookies.split(";").map((each) => each.trim()).find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
};
